"""QCOW2CRYPT_NATIVE at build time, each word of it: with a compiler, without, and after a build.

Each test builds in a copy of the source tree of its own.  A compiler that fails is ``false``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from check_dist import check_wheel
from source_tree import ROOT, source_files

pytestmark = pytest.mark.slow
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a build needs of the source tree."""
    for package, oldest in (("setuptools", 77), ("cffi", 1)):
        try:
            found = int(version(package).split(".")[0])
        except PackageNotFoundError:
            found = 0
        if found < oldest:
            pytest.skip(f"the build was not tested: {package} is missing or too old")
    folder = tmp_path / "tree"
    for path in source_files():
        if path.parts[0] in {"qcow2crypt", "csrc"} or len(path.parts) == 1:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)
    return folder


def build(
    tree: Path, *, native: str | None, compiler: str | None = None, what: str = "build_wheel"
) -> tuple[Path | None, str]:
    """The wheel that was made, if one was, and all that was said."""
    out = tree.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    drop = {"QCOW2CRYPT_NATIVE", "CC", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    if native is not None:
        environment["QCOW2CRYPT_NATIVE"] = native
    if compiler is not None:
        environment["CC"] = compiler
    done = subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta as b; b.{what}({str(out)!r})"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tree,
        env=environment,
    )
    wheels = list(out.glob("*.whl"))
    assert (done.returncode == 0) is (len(wheels) == 1), done.stdout
    return (wheels[0] if wheels else None), done.stdout


def test_a_compiler_that_fails_after_a_good_build_leaves_nothing_of_it(tree: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip("the build of the C kernels was not tested: there is no C compiler")
    good, said = build(tree, native="require")
    assert good is not None, said
    assert check_wheel(good, "native") == []
    assert not [line for line in said.splitlines() if "warning:" in line and ".c:" in line]
    assert list(tree.glob("build/lib*/qcow2crypt/_native.*so"))
    stale, said = build(tree, native="auto", compiler="false")
    assert stale is not None, said
    assert check_wheel(stale, "pure") == []
    assert "The C kernels were not compiled" in said
    assert not list(tree.glob("build/lib*/qcow2crypt/_native.*so"))


@pytest.mark.parametrize("native", [None, "", "auto"])
def test_auto_makes_a_package_without_kernels_and_says_so(tree: Path, native: str | None) -> None:
    wheel, said = build(tree, native=native, compiler="false")
    assert wheel is not None, said
    assert check_wheel(wheel, "pure") == []
    assert "The C kernels were not compiled" in said
    assert "QCOW2CRYPT_NATIVE=require" in said
    home = tree.parent / "installed"
    zipfile.ZipFile(wheel).extractall(home)
    program = "from qcow2crypt import SectorCipher as S; print(S(bytes(16)).engine)"
    done = subprocess.run(
        # -S: an editable installation would lend its compiled part, and pycryptodome is not asked.
        [sys.executable, "-S", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tree.parent,
        env={**os.environ, "PYTHONPATH": str(home), "QCOW2CRYPT_ENGINE": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "pure"


def test_require_fails_without_a_compiler(tree: Path) -> None:
    wheel, said = build(tree, native="require", compiler="false")
    assert wheel is None
    assert "QCOW2CRYPT_NATIVE=require, and the C kernels were not compiled" in said


def test_off_compiles_nothing(tree: Path) -> None:
    wheel, said = build(tree, native="off", compiler="no-such-compiler")
    assert wheel is not None, said
    assert check_wheel(wheel, "pure") == []
    assert "not compiled" not in said  # nobody wanted them


def test_a_word_that_is_not_known(tree: Path) -> None:
    wheel, said = build(tree, native="yes")
    assert wheel is None
    assert "QCOW2CRYPT_NATIVE is auto or require or off, not 'yes'" in said


@pytest.mark.parametrize("native", ["auto", "off"])
def test_an_editable_installation_drops_what_was_compiled_before(tree: Path, native: str) -> None:
    stale = tree / "qcow2crypt" / "_native.abi3.so"
    stale.write_bytes(b"of an earlier build")
    wheel, said = build(tree, native=native, compiler="false", what="build_editable")
    assert wheel is not None, said
    assert not stale.exists()
