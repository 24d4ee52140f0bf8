"""A write to the file fails: the call says so, and the image stays what it was.

Every single event of a script is made to fail once, as on a full disk.  The call in which that
happens raises TargetError; later calls work; in the end ``qemu-img check`` finds nothing, and
each sector holds what was written, or, where the failed call wrote, the old or the new content.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.differential import EXHAUSTIVE

from qcow2crypt.errors import TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.testing.recording import Event, RecordingFile
from qcow2crypt.testing.witness import Disk, QemuImg

SECTOR = 512
PASSPHRASE = "hunter2"
SIZE = 1 << 20
CLUSTER = 2048
EVERY = 1 if EXHAUSTIVE else 3
"""Of the events of a script, every how many-th fails in one run."""


class FullDisk:
    """Refuses the ``number``-th event, once."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.struck = False

    def __call__(self, _event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            self.struck = True
            raise OSError(errno.ENOSPC, "No space left on device")


def make(qemu: QemuImg, disk: Disk, options: dict[str, str | int | bool]) -> bytes:
    """An image with data, a snapshot, and data written after it."""
    qemu.create(disk, SIZE, {"cluster_size": CLUSTER, **options})
    qemu.qemu_io(disk, ["write -P 1 0 300k", "write -c -P 2 600k 2k"])
    opts = ["--image-opts", disk.options("old")]
    qemu.run("snapshot", *disk.secret("old"), "-c", "s", *opts)
    qemu.qemu_io(disk, ["write -P 3 100k 50k"])
    return disk.path.read_bytes()


@dataclass
class Outcome:
    """What is left of one run: the file, the guest disk, and whether all was flushed and closed."""

    file: bytes
    guest: bytes
    struck: bool
    closed: bool


def run(content: bytes, number: int) -> Outcome:
    """Do the script while event ``number`` fails."""
    rng = random.Random(7)
    file = RecordingFile(content)
    full = FullDisk(number)
    editor = Qcow2Editor(HostFile(file, writable=True), secret=PASSPHRASE)
    guest = editor.pread(SIZE, 0)
    file.refuse = full
    for step in range(12):
        start = rng.randrange(SIZE // SECTOR - 64) * SECTOR
        length = rng.randrange(1, 64) * SECTOR
        data = bytes(length) if step % 4 == 3 else rng.randbytes(length)
        new = guest[:start] + data + guest[start + length :]
        struck = full.struck
        try:
            if step % 4 == 3:
                editor.write_zeroes(start, length, unmap=step == 7)
            else:
                editor.pwrite(data, start)
            if step % 5 == 4:
                editor.flush()
        except TargetError:
            assert full.struck
            assert not struck, "a call fails though nothing was refused"
            # The failed call may have done its work, none of it, or a part.
            found = editor.pread(SIZE, 0)
            assert sectors_are_of(found, [guest, new])
            guest = found
        else:
            assert full.struck == struck, "a refused write went unnoticed"
            guest = new
    try:
        editor.flush()
    except TargetError:
        editor.flush()
    assert editor.pread(SIZE, 0) == guest
    try:
        editor.close()
    except TargetError:
        return Outcome(file.getvalue(), guest, struck=True, closed=False)
    return Outcome(file.getvalue(), guest, struck=full.struck, closed=True)


def sectors_are_of(found: bytes, contents: list[bytes]) -> bool:
    """Is each sector as in one of the contents?"""
    return all(
        any(content[at : at + SECTOR] == found[at : at + SECTOR] for content in contents)
        for at in range(0, len(found), SECTOR)
    )


@pytest.mark.timeout(1800 if EXHAUSTIVE else 120)
@pytest.mark.parametrize(
    "options",
    [{}, {"compat": "0.10"}, {"refcount_bits": 64, "lazy_refcounts": True}],
    ids=["v3", "v2", "wide-lazy"],
)
def test_one_write_fails(
    options: dict[str, str | int | bool], qemu_img: QemuImg, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "full.qcow2", passphrase=PASSPHRASE)
    content = make(qemu_img, disk, options)
    number = 1
    repair = "all" if options.get("lazy_refcounts") else "leaks"
    while True:
        left = run(content, number)
        if not left.struck:
            break
        disk.path.write_bytes(left.file)
        if not left.closed:  # as after a crash: a dirty image is repaired, others may have leaks
            opts = ["--image-opts", disk.options("old")]
            qemu_img.run("check", *disk.secret("old"), "-r", repair, *opts)
        report = qemu_img.check(disk)
        assert not report.get("corruptions"), (number, report)
        assert not report.get("leaks"), (number, report)
        raw = tmp_path / "out.raw"
        qemu_img.convert(disk, Disk(raw, driver="raw"))
        assert raw.read_bytes() == left.guest, number
        number += EVERY
    assert number > 20, "the script has too few events to show anything"
