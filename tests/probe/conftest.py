"""What the tests of the probe share: programs in C that do AES in a known way, so many blocks."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from support.tools import find_tool, skip_without_ptrace

from qcow2crypt.probe import perf
from qcow2crypt.reference.tables import sbox

SOURCES = Path(__file__).with_name("c")
# Ways to make the same program.
BUILDS = {
    "pie": ("-pie", "-fPIE"),
    "no-pie": ("-no-pie", "-fno-pie"),
    "static": ("-static", "-DSTATIC"),
    "static-pie": ("-static-pie", "-fPIE", "-DSTATIC"),
    "library": ("-shared", "-fPIC"),
}
Build: TypeAlias = Callable[..., Path]


@pytest.fixture(scope="session")
def tool(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the path of a program; without it the test is skipped, or fails if required."""
    return lambda name: find_tool(request.config, name)


@pytest.fixture
def traced() -> None:
    """For tests that trace a program: skipped, with the reason, where the system refuses that."""
    skip_without_ptrace()


@pytest.fixture(scope="session")
def build(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles tests/probe/c one way, once."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "sbox.h").write_text(
        f"static const unsigned char sbox[256] __attribute__((aligned(64))) = "
        f"{{{', '.join(map(str, sbox))}}};\n"
    )

    def make(way: str = "pie") -> Path:
        made = folder / (way if way != "library" else "libway.so")
        if not made.exists():
            names = ("instructions.c",) if way == "library" else ("*.c",)
            sources = [path for name in names for path in sorted(SOURCES.glob(name))]
            command = [tool("gcc"), "-O1", "-Wall", "-Werror", "-maes", f"-I{folder}"]
            command += [*map(str, sources), *BUILDS[way], "-pthread", "-o", str(made)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        return made

    return make


@pytest.fixture
def program(build: Build) -> Path:
    """The program as most are made."""
    return build()


@pytest.fixture(params=["counters", "registers"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to count: counters of perf, and debug registers."""
    if request.param == "registers":
        monkeypatch.setattr(perf, "why_not", lambda: "a test asks for the other way")
    elif perf.why_not():
        pytest.skip(f"counting with perf was not tested: {perf.why_not()}")
    return str(request.param)


@pytest.fixture(autouse=True)
def empty_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Temporary files go to a folder that must be empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []
