"""The plugin for pytest, as a program of somebody else uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.testing.places import describe_difference, first_different_byte
from qcow2crypt.testing.witness import QemuImg

CONFTEST = 'pytest_plugins = ["qcow2crypt.testing.fixtures"]\n'
TEST = """
def test_fails(qemu_img):
    assert qemu_img.version == "none"

def test_without():
    assert not "this"
"""


def run_pytest(folder: Path, *words: str, **environment: str) -> str:
    """Run pytest over ``TEST`` in ``folder``, with no settings of ours; gives what it prints."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TEST)
    home = Path(qcow2crypt.__file__).parent.parent
    kept = {key: value for key, value in os.environ.items() if "QCOW2CRYPT" not in key}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", *words, "."],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": str(home), **environment},
    )
    return done.stdout


def test_the_version_stands_in_a_failure(tmp_path: Path, qemu_img: QemuImg) -> None:
    said = run_pytest(tmp_path, f"--rootdir={tmp_path}")
    assert "2 failed" in said
    assert said.count(f"{qemu_img.img}, version {qemu_img.version}") == 1
    assert f"qemu-img: {qemu_img.version}" in said


def test_without_qemu_it_is_skipped_and_says_so(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, f"--rootdir={tmp_path}", "-rs", PATH="")
    assert "1 failed, 1 skipped" in said
    assert "nothing was compared with QEMU itself" in said


@pytest.mark.parametrize("word", ["", "--require-qemu"])
def test_where_qemu_is_required_it_fails(tmp_path: Path, word: str) -> None:
    words = [f"--rootdir={tmp_path}", *([word] if word else [])]
    required = {} if word else {"QCOW2CRYPT_REQUIRE_QEMU": "1"}
    said = run_pytest(tmp_path, *words, PATH="", **required)
    assert "1 failed, 1 error" in said
    assert "apt-get install qemu-utils" in said


def test_where_two_disks_differ() -> None:
    wanted = bytes(2048)
    assert describe_difference(wanted, wanted) is None
    found = wanted[:1030] + b"\1" + wanted[1031:]
    assert first_different_byte(found, wanted) == 1030
    said = describe_difference(found, wanted)
    assert said is not None
    assert "guest offset 0x406, in sector 2, whose IV is 02" in said
    assert str(describe_difference(b"", wanted)).startswith("0 bytes, 2048 wanted")
