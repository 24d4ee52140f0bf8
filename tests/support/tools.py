"""Programs that tests need: found, or the test is skipped by name, or fails where that is asked.

``--require-native-tools`` turns "valgrind is missing" from a skip into a failure, and so do
CI=true and QCOW2CRYPT_REQUIRE_NATIVE_TOOLS=1 in the environment.
"""

from __future__ import annotations

import os
import platform
import shutil

import pytest

# Which Debian package brings which program.
PACKAGES = {
    "bochs": "bochs bochsbios",
    "gcc": "gcc",
    "clang": "clang",
    "objdump": "binutils",
    "valgrind": "valgrind",
    "qemu-x86_64": "qemu-user",
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}


def find_tool(config: pytest.Config, name: str) -> str:
    """The path of a program on Linux on x86-64."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("this is proven on Linux on x86-64, and here is another system")
    if path := shutil.which(name):
        return path
    message = f"{name} is not installed (on Debian: apt-get install {PACKAGES[name]})"
    required = config.getoption("--require-native-tools") or any(
        os.environ.get(variable, "") not in {"", "0", "false"}
        for variable in ("QCOW2CRYPT_REQUIRE_NATIVE_TOOLS", "CI")
    )
    if required:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
