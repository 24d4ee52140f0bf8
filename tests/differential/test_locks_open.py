"""Image locks through ``open``, ``create`` and ``convert``, beside a qemu-io that stays open."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lockers import ALLOWED, FORCED, PAIRS, READER, WRITER

import qcow2crypt
from qcow2crypt.errors import ArgumentError, ImageLockedError, TargetError
from qcow2crypt.image import locks
from qcow2crypt.image.base import Image
from qcow2crypt.testing.witness import Disk, QemuError, QemuImg

pytestmark = pytest.mark.skipif(not locks.AVAILABLE, reason="only Linux has OFD locks")

SIZE = 1 << 20
FORMATS = ("qcow2", "raw")
OURS, THEIRS = b"o" * 4096, b"t" * 4096


class LiveQemuIo:
    """A qemu-io that waits for commands."""

    def __init__(self, qemu_img: QemuImg, disk: Disk, *options: str) -> None:
        self._process = subprocess.Popen(
            [qemu_img.io, "-f", disk.driver, *options, str(disk.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = self._until_prompt()

    def _until_prompt(self) -> str:
        """What it prints up to its next prompt, or its end."""
        assert self._process.stdout is not None
        text = ""
        while not text.endswith("qemu-io> ") and (letter := self._process.stdout.read(1)):
            text += letter
        return text.removesuffix("qemu-io> ")

    def __call__(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._until_prompt()

    def close(self) -> None:
        self._process.communicate("quit\n")
        assert self._process.returncode == 0


@contextlib.contextmanager
def qemu_io(qemu_img: QemuImg, disk: Disk, kind: str) -> Iterator[LiveQemuIo]:
    options = {READER: ("-r",), FORCED: ("-r", "-U"), WRITER: ()}
    live = LiveQemuIo(qemu_img, disk, *options[kind])
    try:
        yield live
    finally:
        live.close()


def opened(disk: Disk, kind: str) -> Image:
    return qcow2crypt.open(
        disk.path,
        mode="r+" if kind == WRITER else "r",
        format=disk.driver,
        force_share=kind == FORCED,
    )


@pytest.fixture
def disk(qemu_img: QemuImg, tmp_path: Path) -> Disk:
    disk = Disk(tmp_path / "disk.qcow2")
    qemu_img.create(disk, SIZE)
    return disk


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_opens_in_one_program(first: str, second: str, disk: Disk) -> None:
    with opened(disk, first):
        if (first, second) in ALLOWED:
            opened(disk, second).close()
        else:
            with pytest.raises(ImageLockedError, match=r"is in use"):
                opened(disk, second)
    opened(disk, second).close()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_beside_qemu_io(first: str, second: str, disk: Disk, qemu_img: QemuImg) -> None:
    with qemu_io(qemu_img, disk, first):
        if (first, second) in ALLOWED:
            opened(disk, second).close()
        else:
            with pytest.raises(ImageLockedError, match=r"is in use"):
                opened(disk, second)
    opened(disk, second).close()


@pytest.mark.parametrize("driver", FORMATS)
def test_writers_take_turns(driver: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    """Neither can begin before the other has ended, and what both have written is there."""
    disk = Disk(tmp_path / f"disk.{driver}", driver)
    qemu_img.create(disk, SIZE)
    for turn in range(3):
        at = turn * 65536
        with opened(disk, WRITER) as image:
            image.pwrite(OURS, at)
            with pytest.raises(QemuError, match=r"Is another process using the image"):
                qemu_img.qemu_io(disk, ["write -P 0x74 0 4k"])
        with qemu_io(qemu_img, disk, WRITER) as live:
            assert "wrote 4096/4096" in live(f"write -P 0x74 {at + 4096} 4k")
            with pytest.raises(ImageLockedError):
                opened(disk, WRITER)
            assert "wrote 4096/4096" in live(f"write -P 0x74 {at + 8192} 4k")
            live("flush")
    with opened(disk, READER) as image:
        for turn in range(3):
            assert image.pread(12288, turn * 65536) == OURS + THEIRS * 2
    if driver == "qcow2":
        assert qemu_img.check(disk)["check-errors"] == 0


def test_a_forced_reader_sees_what_was_flushed(disk: Disk, qemu_img: QemuImg) -> None:
    with qemu_io(qemu_img, disk, WRITER) as live:
        live("write -P 0x74 0 4k")
        live("flush")
        with opened(disk, FORCED) as image:
            assert image.pread(4096, 0) == THEIRS


def test_a_writer_is_never_forced(disk: Disk) -> None:
    with pytest.raises(ArgumentError, match=r"force_share is for reading"):
        qcow2crypt.open(disk.path, mode="r+", force_share=True)


@pytest.mark.parametrize("kind", [READER, WRITER])
def test_backing_files_are_locked_for_reading(kind: str, disk: Disk, qemu_img: QemuImg) -> None:
    """Who writes to a base changes the overlay too: not while that is open."""
    overlay = Disk(disk.path.with_name("overlay.qcow2"))
    qemu_img.run("create", "-q", "-f", "qcow2", "-b", disk.path, "-F", "qcow2", overlay.path)
    with opened(overlay, kind):
        with pytest.raises(QemuError, match=r"Is another process using the image"):
            qemu_img.qemu_io(disk, ["write 0 4k"])
        with pytest.raises(ImageLockedError):
            opened(disk, WRITER)
        opened(disk, READER).close()
    with qemu_io(qemu_img, disk, WRITER):
        with pytest.raises(ImageLockedError, match=r"disk\.qcow2' is in use"):
            opened(overlay, kind)
        opened(overlay, FORCED).close()


class TestTargets:
    @pytest.mark.parametrize("kind", [READER, FORCED, WRITER])
    def test_create_and_convert(self, kind: str, disk: Disk, qemu_img: QemuImg) -> None:
        source = disk.path.with_name("source.raw")
        source.write_bytes(OURS)
        old = disk.path.read_bytes()
        with qemu_io(qemu_img, disk, kind):
            if kind == FORCED:
                qcow2crypt.create(disk.path, SIZE)
                qcow2crypt.convert(source, disk.path)
            else:
                with pytest.raises(ImageLockedError, match=r"is in use"):
                    qcow2crypt.create(disk.path, SIZE)
                for into_existing in (False, True):
                    with pytest.raises(ImageLockedError, match=r"is in use"):
                        qcow2crypt.convert(
                            source,
                            disk.path,
                            target_format="qcow2",
                            into_existing=into_existing,
                        )
                assert disk.path.read_bytes() == old
        assert {path.name for path in disk.path.parent.iterdir()} == {"disk.qcow2", "source.raw"}

    def test_into_an_existing_image(self, disk: Disk) -> None:
        """It is read and replaced at once, under one lock."""
        source = disk.path.with_name("source.raw")
        source.write_bytes(OURS)
        qcow2crypt.convert(source, disk.path, target_format="qcow2", into_existing=True)
        with opened(disk, READER) as image:
            assert image.pread(8192, 0) == OURS + bytes(4096)

    def test_a_source_that_is_written_to(self, disk: Disk, qemu_img: QemuImg) -> None:
        target = disk.path.with_name("target.raw")
        with qemu_io(qemu_img, disk, WRITER):
            with pytest.raises(ImageLockedError, match=r"is in use"):
                qcow2crypt.convert(disk.path, target, target_format="raw")
            assert not target.exists()

    def test_the_base_of_the_source_is_no_target(self, disk: Disk, qemu_img: QemuImg) -> None:
        overlay = Disk(disk.path.with_name("overlay.qcow2"))
        qemu_img.run("create", "-q", "-f", "qcow2", "-b", disk.path, "-F", "qcow2", overlay.path)
        old = disk.path.read_bytes()
        with pytest.raises(TargetError, match=r"backing file and target are the same file"):
            qcow2crypt.convert(overlay.path, disk.path)
        assert disk.path.read_bytes() == old
