"""Dirty bitmaps of images that are written: by qemu-io and qemu-img, and by us, on twins."""

from __future__ import annotations

import json
import random
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from support.dirty_bits import AUTO, BITMAPS, IN_USE, BitmapFound, bitmaps

import qcow2crypt
from qcow2crypt.errors import TargetError
from qcow2crypt.image.qcow2.edit import dirtybitmaps
from qcow2crypt.image.qcow2.edit.dirtybitmaps import set_bits
from qcow2crypt.testing.witness import Disk, QemuImg

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
KINDS: dict[str, tuple[dict[str, str | int | bool], int]] = {
    "plain": ({"cluster_size": 65536}, 3 * MB),
    "small": ({"cluster_size": 512}, 3 * MB),
    "aes": ({"cluster_size": 4096}, 5 * MB),
    "extended": ({"cluster_size": 16384, "extended_l2": True}, 3 * MB),
    "lazy": ({"cluster_size": 1024, "lazy_refcounts": True}, 3 * MB),
    "wide": ({"cluster_size": 2 * MB, "refcount_bits": 64}, 9 * MB),
    "external": ({"cluster_size": 65536, "data_file": "X.raw"}, 3 * MB),
}
BITMAPS_MADE = (["-g", "512", "fine"], ["-g", "64k", "usual"], ["-g", "1M", "--disable", "rests"])


def make(qemu: QemuImg, path: Path, kind: str) -> Disk:
    """An image with three bitmaps."""
    options, size = KINDS[kind]
    disk = Disk(path, passphrase="pass" if kind == "aes" else None)
    told = {
        key: str(path.with_suffix(".raw")) if key == "data_file" else value
        for key, value in options.items()
    }
    qemu.create(disk, size, told)
    for words in BITMAPS_MADE:
        opts = [*disk.secret("s"), "--image-opts", disk.options("s")]
        qemu.run("bitmap", "--add", *words[:-1], *opts, words[-1])
    return disk


def found(disk: Disk) -> dict[str, BitmapFound]:
    return bitmaps(disk.path.read_bytes())


def flags(disk: Disk) -> dict[str, int]:
    return {name: bitmap.flags for name, bitmap in found(disk).items()}


def assert_sound(qemu: QemuImg, disk: Disk) -> None:
    report = qemu.check(disk)
    assert not report.get("corruptions"), report
    assert not report.get("leaks"), report


def resize(qemu: QemuImg, disk: Disk, size: int) -> None:
    words = ["--image-opts", disk.options("old"), str(size)]
    qemu.run("resize", "-q", "--shrink", *disk.secret("old"), *words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_as_qemu_sets(kind: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    rng = random.Random(kind)
    ours, theirs = (make(qemu_img, tmp_path / f"{name}.qcow2", kind) for name in ("our", "their"))
    size = KINDS[kind][1]
    for _ in range(5):
        commands = []
        with qcow2crypt.open(ours.path, ours.passphrase, mode="r+") as image:
            for _ in range(rng.randrange(1, 7)):
                start = rng.randrange(size // 512)
                length = rng.randrange(1, min(600, size // 512 - start) + 1) * 512
                start *= 512
                if rng.random() < 0.6:
                    image.pwrite(b"\x05" * length, start)
                    commands.append(f"write -P 5 {start} {length}")
                else:
                    image.write_zeroes(start, length)
                    commands.append(f"write -z {start} {length}")
        qemu_img.qemu_io(theirs, commands)
        assert found(ours) == found(theirs), commands
        assert_sound(qemu_img, ours)
        if rng.random() < 0.8:
            size = rng.randrange(1, 12 * MB // 512) * 512
            resize(qemu_img, theirs, size)
            with qcow2crypt.open(ours.path, ours.passphrase, mode="r+") as image:
                image.truncate(size)
            assert found(ours) == found(theirs), size
            assert_sound(qemu_img, ours)
    assert flags(ours) == {"fine": AUTO, "usual": AUTO, "rests": 0}
    assert found(ours)["usual"].dirty


def test_qemu_nbd_shows_them(qemu_img: QemuImg, tmp_path: Path) -> None:
    """The reader of these tests is right, and QEMU believes what we write."""
    nbd = shutil.which("qemu-nbd")
    if nbd is None:
        pytest.skip("qemu-nbd is not installed")
    disk = make(qemu_img, tmp_path / "a.qcow2", "small")
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pwrite(bytes(1), 70_000)
        image.write_zeroes(1 * MB + 5, 100_000)
        image.discard(2 * MB, 1024)
    for name in ("fine", "usual"):
        bitmap = found(disk)[name]
        shown = {
            at // bitmap.granularity
            for start, length in _shown(qemu_img, nbd, disk.path, name, tmp_path / "socket")
            for at in range(start, start + length, bitmap.granularity)
        }
        assert bitmap.dirty == shown
        assert shown
    usual = found(disk)["usual"].dirty
    assert usual == {1, 16, 17, 32}


def _shown(qemu: QemuImg, nbd: str, path: Path, name: str, socket: Path) -> list[tuple[int, int]]:
    """The dirty ranges, as a client of qemu-nbd sees them."""
    command = [nbd, "-r", "-f", "qcow2", "-B", name, "-x", "e", "-k", str(socket), str(path)]
    server = subprocess.Popen(command)
    try:
        options = (
            f"driver=nbd,server.type=unix,server.path={socket},export=e,"
            f"x-dirty-bitmap=qemu:dirty-bitmap:{name}"
        )
        for _ in range(100):
            done = qemu.run("map", "--output=json", "--image-opts", options, check=False)
            if not done.returncode:
                break
            time.sleep(0.05)
        extents = json.loads(done.stdout)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        socket.unlink(missing_ok=True)
    # Where a bit is set, this says that there is no data.
    return [(one["start"], one["length"]) for one in extents if not one["data"]]


def test_flags_while_it_is_written(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = make(qemu_img, tmp_path / "a.qcow2", "plain")

    at_rest = {"fine": AUTO, "usual": AUTO, "rests": 0}
    writing = {"fine": AUTO | IN_USE, "usual": AUTO | IN_USE, "rests": 0}
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pread(512, 0)
        assert flags(disk) == at_rest
        image.pwrite(b"x", 0)
        assert flags(disk) == writing
        image.flush()
        assert flags(disk) == writing
        image.create_snapshot("s")
        assert flags(disk) == at_rest
        image.pwrite(b"x", MB)
        assert flags(disk) == writing
        image.truncate(4 * MB)
        assert flags(disk) == {**writing, "rests": IN_USE}
    assert flags(disk) == at_rest
    assert found(disk)["usual"].dirty == {0, 16}
    assert_sound(qemu_img, disk)


def test_one_that_is_in_use_stays_so(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = make(qemu_img, tmp_path / "a.qcow2", "plain")
    qemu_img.run_io("-c", "write 0 64k", "-c", "abort", disk.path)
    before = flags(disk)
    assert before == {"fine": AUTO | IN_USE, "usual": AUTO | IN_USE, "rests": IN_USE}
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pwrite(b"x", 0)
        image.truncate(9 * MB)
    assert flags(disk) == before
    assert not qemu_img.check(disk).get("corruptions")


def test_little_memory_and_the_same_bits(
    qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Portions that are written on the way are read again."""
    ours, theirs = (make(qemu_img, tmp_path / f"{name}.qcow2", "small") for name in ("o", "t"))
    monkeypatch.setattr(dirtybitmaps, "_HELD_MAX", 1024)
    rng = random.Random(1)
    places = [rng.randrange(3 * MB // 512) * 512 for _ in range(60)]
    with qcow2crypt.open(ours.path, mode="r+") as image:
        for at in places:
            image.pwrite(b"\x05" * 512, at)
    qemu_img.qemu_io(theirs, [f"write -P 5 {at} 512" for at in places])
    assert found(ours) == found(theirs)
    assert_sound(qemu_img, ours)


def test_all_ones_without_a_place(qemu_img: QemuImg, tmp_path: Path) -> None:
    """A table may say that all bits of a cluster are set; what the disk grows by is not."""
    disk = make(qemu_img, tmp_path / "a.qcow2", "small")
    _set_table(disk.path, "fine", 1)
    assert len(found(disk)["fine"].dirty) == 3 * MB // 512
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pwrite(b"x", 0)
        image.truncate(3 * MB + 10 * 512)
        image.truncate(5 * MB)
        image.pwrite(b"x", 4 * MB)
    dirty = found(disk)["fine"].dirty
    assert dirty == frozenset(range(3 * MB // 512)) | {4 * MB // 512}
    assert_sound(qemu_img, disk)


def test_a_damaged_one_is_not_believed(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Its table names the header: nothing is written there, and the others are kept."""
    disk = make(qemu_img, tmp_path / "a.qcow2", "plain")
    _set_table(disk.path, "fine", 1 << 40)
    header = disk.path.read_bytes()[:512]
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pwrite(b"x", 0)
    assert flags(disk) == {"fine": AUTO | IN_USE, "usual": AUTO, "rests": 0}
    assert found(disk)["usual"].dirty == {0}
    assert disk.path.read_bytes()[:512] == header


def test_after_an_error_no_bitmap_is_believed(
    qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make(qemu_img, tmp_path / "a.qcow2", "plain")

    def full(*_words: object) -> int:
        raise TargetError("no space left")

    image = qcow2crypt.open(disk.path, mode="r+")
    image.pwrite(b"x" * 512, 0)
    monkeypatch.setattr(dirtybitmaps.BitmapRecorder, "_new_cluster", full)
    with pytest.raises(TargetError, match="no space left"):
        image.close()
    monkeypatch.undo()
    assert flags(disk) == {"fine": AUTO | IN_USE, "usual": AUTO | IN_USE, "rests": 0}
    with qcow2crypt.open(disk.path) as again:
        assert again.pread(512, 0) == b"x" * 512
    assert not qemu_img.check(disk).get("corruptions")


def test_a_large_disk(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Several clusters of table and of bits, grown and cut."""
    disk = Disk(tmp_path / "large.qcow2")
    qemu_img.create(disk, 3 * GB, {"cluster_size": 512})
    qemu_img.run("bitmap", "--add", "-g", "4k", disk.path, "b")
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.write_zeroes(GB, 40 * MB)
    expected = set(range(GB // 4096, (GB + 40 * MB) // 4096))
    assert found(disk)["b"].dirty == expected
    assert_sound(qemu_img, disk)
    for size in (4 * GB, GB + 20 * MB, GB + 20 * MB + 512, 2 * GB):
        with qcow2crypt.open(disk.path, mode="r+") as image:
            image.truncate(size)
        expected = {bit for bit in expected if bit * 4096 < size}
        assert found(disk)["b"].dirty == expected
        assert_sound(qemu_img, disk)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (7, 8), (3, 5), (0, 31), (9, 30), (8, 15)])
def test_set_bits(first: int, last: int) -> None:
    data = bytearray(4)
    set_bits(data, first, last)
    number = int.from_bytes(data, "little")
    assert [bit for bit in range(32) if number >> bit & 1] == list(range(first, last + 1))


def _set_table(path: Path, name: str, entry: int) -> None:
    """Let every entry of the table of one bitmap be this; there are no clusters yet."""
    content = path.read_bytes()
    at = int.from_bytes(content[100:104], "big")
    while struct.unpack_from(">I", content, at)[0] != BITMAPS:
        at += 8 + -(-struct.unpack_from(">I", content, at + 4)[0] // 8) * 8
    count, _, _, offset = struct.unpack_from(">IIQQ", content, at + 8)
    for _ in range(count):
        table, entries, _, _, _, length, extra = struct.unpack_from(">QIIBBHI", content, offset)
        if content[offset + 24 + extra :][:length].decode() == name:
            with path.open("r+b") as file:
                file.seek(table)
                file.write(entry.to_bytes(8, "big") * entries)
            return
        offset = -(-(offset + 24 + extra + length) // 8) * 8
    raise AssertionError(name)
