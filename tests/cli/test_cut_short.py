"""An image whose file was cut short: it reads as with qemu-img, and a warning says what is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import Disk, QemuImg

MB = 1 << 20


@pytest.fixture
def cut(qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clusters 0 to 5 are there, and a part of cluster 6; an overlay lies on it."""
    monkeypatch.chdir(tmp_path)
    disk = Disk(tmp_path / "cut.qcow2")
    qemu_img.create(disk, MB)
    qemu_img.qemu_io(disk, ["write -P 7 0 1M"])
    shutil.copy(disk.path, "whole.qcow2")
    qemu_img.create(
        Disk(tmp_path / "over.qcow2"), MB, {"backing_file": "cut.qcow2", "backing_fmt": "qcow2"}
    )
    with disk.path.open("r+b") as file:
        file.truncate(0x50000 + 6 * 65536 + 700)
    return disk.path


@pytest.mark.parametrize("name", ["cut.qcow2", "over.qcow2"])
@pytest.mark.usefixtures("cut")
def test_convert_warns_and_does_what_qemu_does(name: str, qemu_img: QemuImg) -> None:
    done = run_main(["convert", "-O", "raw", name, "ours.raw"])
    assert done.status == 0
    assert "cut.qcow2' is cut short" in done.stderr
    assert "guest offset 0x70000 on" in done.stderr
    assert "qcow2crypt check" in done.stderr
    qemu_img.run("convert", "-O", "raw", name, "theirs.raw")
    assert Path("ours.raw").read_bytes() == Path("theirs.raw").read_bytes()
    assert run_main(["convert", "-q", "-O", "raw", name, "ours.raw"]).stderr == ""


@pytest.mark.usefixtures("cut")
def test_other_commands_that_read() -> None:
    for words in (
        ["compare", "cut.qcow2", "cut.qcow2"],
        ["dd", "if=cut.qcow2", "of=out.raw", "bs=1M"],
        ["rebase", "-b", "", "over.qcow2"],
    ):
        done = run_main(words)
        assert done.status == 0, done
        assert "cut short" in done.stderr


def test_a_file_without_its_tables(cut: Path) -> None:
    """It reads as zeros, with qemu-img too."""
    with cut.open("r+b") as file:
        file.truncate(300)
    done = run_main(["convert", "-O", "raw", "cut.qcow2", "ours.raw"])
    assert done.status == 0
    assert "guest offset 0x0 on" in done.stderr


def test_check_says_what_is_lost(cut: Path) -> None:
    done = run_main(["check", str(cut)])
    assert done.status == 2
    assert "9 errors were found" in done.stdout


@pytest.mark.parametrize("length", [0x50000 + MB, 0x50000 + MB - 65536 + 512])
def test_whole_files_are_not_told_off(
    qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """The last cluster of a file may be shorter than the others."""
    monkeypatch.chdir(tmp_path)
    disk = Disk(tmp_path / "a.qcow2")
    qemu_img.create(disk, MB)
    qemu_img.qemu_io(disk, ["write -P 7 0 1M"])
    with disk.path.open("r+b") as file:
        file.truncate(length)
    done = run_main(["convert", "-O", "raw", "a.qcow2", "a.raw"])
    assert (done.status, done.stderr) == (0, "")
