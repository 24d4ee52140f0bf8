"""The power fails while bitmaps are added: the old bitmaps or the new ones, and a sound image."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from support.dirty_bits import bitmaps_in

import qcow2crypt
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmaps import bitmap_entries, readable_bitmap
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.testing.recording import Journal, RecordingFile
from qcow2crypt.testing.witness import Disk, QemuImg

SIZE = 3 << 20
ORDERS = 4

Bits = tuple[tuple[bytes, int, bytes], ...]


def bits_of(content: bytes) -> Bits:
    return tuple((one.name, one.flags, one.bits) for one in bitmaps_in(content))


def _torn(before: bytes, after: bytes) -> list[bytes]:
    """A write to the header of which one sector arrived, and one of which all others did."""
    if before[:1024] == after[:1024]:
        return []
    return [after[:512] + before[512:], before[:512] + after[512:]]


@pytest.mark.parametrize("present", [False, True], ids=["none before", "some before"])
@pytest.mark.parametrize(
    "options",
    [
        {"cluster_size": 512},
        {"cluster_size": 65536},
        {"cluster_size": 4096, "lazy_refcounts": True},
        {"cluster_size": 1024, "refcount_bits": 1},
    ],
    ids=str,
)
def test_every_point(
    qemu_img: QemuImg, tmp_path: Path, options: dict[str, int | bool], present: bool
) -> None:
    source, target = Disk(tmp_path / "source"), Disk(tmp_path / "target")
    qemu_img.create(source, SIZE)
    qemu_img.run("bitmap", "--add", "-g", "512", source.path, "new")
    qemu_img.run("bitmap", "--add", "--disable", source.path, "other")
    qemu_img.qemu_io(source, ["write -q 1M 700k"])
    qemu_img.create(target, SIZE, options)
    qemu_img.qemu_io(target, ["write -q -P 5 100k 200k"])
    if present:
        qemu_img.run("bitmap", "--add", "--disable", target.path, "old")
    base = target.path.read_bytes()
    file = RecordingFile(base)
    with contextlib.closing(HostFile(source.path)) as opened:
        structure = read_structure(opened)
        entries = bitmap_entries(opened, structure)
        bitmaps = [readable_bitmap(opened, structure, entry) for entry in entries]
        with Qcow2Editor(HostFile(file, writable=True)) as editor:
            guest = editor.pread(SIZE, 0)
            editor.add_bitmaps(bitmaps)
            done = len(file.events)
    journal = Journal(base, file.events)
    old, new = bits_of(base), bits_of(journal.prefix(done))
    assert len(new) == len(old) + 2
    rng = random.Random(f"{options} {present}")
    seen, looked_at = set(), set()
    for point in range(done + 1):
        disks = [journal.part(point, rng) for _ in range(ORDERS)]
        disks += [journal.alone(point)] if point < done else []
        disks += _torn(journal.prefix(point), journal.prefix(point + 1)) if point < done else []
        for content in [*disks, journal.prefix(point)]:
            found = bits_of(content)
            assert found in (old, new)
            seen.add(found == new)
            if hash(content) in looked_at:
                continue
            looked_at.add(hash(content))
            target.path.write_bytes(content)
            with qcow2crypt.open(target.path) as image:
                assert image.pread(SIZE, 0) == guest
            report = qemu_img.run("check", "-q", target.path, check=False).returncode
            dirty = qemu_img.info(target)["dirty-flag"]
            assert report in (0, 3) or dirty
            repair = "all" if dirty else "leaks"
            qemu_img.run("check", "-q", "-r", repair, target.path)
    assert seen == {False, True}
