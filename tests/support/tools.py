"""Programs that tests need: found, or the test is skipped by name, or fails where that is asked.

``--require-native-tools`` turns "valgrind is missing" from a skip into a failure, and so do
CI=true and QCOW2CRYPT_REQUIRE_NATIVE_TOOLS=1 in the environment.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess

import pytest

from qcow2crypt.probe import ptrace

# Which Debian package brings which program.
PACKAGES = {
    "bochs": "bochs bochsbios",
    "gcc": "gcc",
    "setpriv": "util-linux",
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


def skip_without_ptrace() -> None:
    """Skip a test that traces a program, where the system refuses that: in some containers."""
    if reason := _why_no_ptrace():
        pytest.skip(f"no program was traced: {reason}")


@functools.cache
def _why_no_ptrace() -> str:
    with subprocess.Popen([shutil.which("sleep") or "sleep", "60"]) as child:
        try:
            ptrace.seize(child.pid)
        except OSError as error:
            return str(error)
        finally:
            child.kill()
    return ""
