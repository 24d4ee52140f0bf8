"""What the tests of the C part share: programs that must be there, a folder for what is compiled.

``--require-native-tools`` turns "valgrind is missing" from a skip into a failure, and so do
CI=true and QCOW2CRYPT_REQUIRE_NATIVE_TOOLS=1 in the environment.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.native_c import Variant, driver, vector_lines

# Which Debian package brings which program.
PACKAGES = {
    "bochs": "bochs bochsbios",
    "gcc": "gcc",
    "clang": "clang",
    "valgrind": "valgrind",
    "qemu-x86_64": "qemu-user",
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}


@pytest.fixture(scope="session")
def tool(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the path of a program; without it the test is skipped, or fails if required."""
    required = request.config.getoption("--require-native-tools") or any(
        os.environ.get(name, "") not in {"", "0", "false"}
        for name in ("QCOW2CRYPT_REQUIRE_NATIVE_TOOLS", "CI")
    )

    def find(name: str) -> str:
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            pytest.skip("the C part is proven on Linux on x86-64; this is another system")
        if path := shutil.which(name):
            return path
        message = f"{name} is not installed (on Debian: apt-get install {PACKAGES[name]})"
        if required:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)

    return find


@pytest.fixture(scope="session")
def c_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled programs, the same for all processes of one test run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "compiled"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def c_driver(tool: Callable[[str], str], c_folder: Path) -> Callable[[Variant], Path]:
    """Gives the C test driver, compiled one way."""

    def make(variant: Variant) -> Path:
        tool(variant.compiler[0])
        return driver(c_folder, variant)

    return make


@pytest.fixture(scope="session")
def c_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors as a file that the C test driver reads."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    path.write_text("\n".join(vector_lines()) + "\n", "utf-8")
    return path
