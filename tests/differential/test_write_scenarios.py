"""What QEMU's own tests check about encrypted writes, in both directions, and some rules of ours.

E1, E2 and E6 follow QEMU's iotests 134, 158 and 263: their behaviour, in our words.  "We" writes
through the library; the other side verifies.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.layered import LayeredDisk

import qcow2crypt
from qcow2crypt.errors import FormatError, MappingError, ReadOnlyError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.testing.witness import Disk, QemuError, QemuImg

KEY_A, KEY_B = "passphrase A", "passphrase B"
KB, MB = 1 << 10, 1 << 20
CLUSTERS = [512, 4096, 65536, 2 * MB]
WRITERS = ["we", "qemu-io"]

Piece = tuple[int, int, int]
"""Pattern, offset, length."""


def write(qemu: QemuImg, writer: str, disk: Disk, pieces: list[Piece]) -> None:
    """Fill ranges, by us or by qemu-io."""
    if writer == "qemu-io":
        qemu.qemu_io(disk, [f"write -P {pattern} {at} {length}" for pattern, at, length in pieces])
        return
    with qcow2crypt.open(disk.path, disk.passphrase, "r+") as image:
        for pattern, at, length in pieces:
            image.pwrite(bytes([pattern]) * length, at)


def verify(qemu: QemuImg, disk: Disk, pieces: list[Piece]) -> None:
    """Both programs read these patterns, and qemu-img check finds nothing."""
    qemu.qemu_io(disk, [f"read -P {pattern} {at} {length}" for pattern, at, length in pieces])
    with qcow2crypt.open(disk.path, disk.passphrase) as image:
        for pattern, at, length in pieces:
            assert image.pread(length, at) == bytes([pattern]) * length
    assert is_clean(qemu, disk)


def is_clean(qemu: QemuImg, disk: Disk) -> bool:
    report = qemu.check(disk)
    return not report.get("corruptions") and not report.get("leaks")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_e1_fill_and_wrong_passphrase(
    writer: str, cluster: int, compat: str, qemu_img: QemuImg, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "e1.qcow2", passphrase=KEY_A)
    size = 8 * MB if cluster >= 4096 else MB
    qemu_img.create(disk, size, {"cluster_size": cluster, "compat": compat})
    verify(qemu_img, disk, [(0, 0, size)])
    write(qemu_img, writer, disk, [(0x0B, 512, 512)])
    verify(qemu_img, disk, [(0, 0, 512), (0x0B, 512, 512), (0, 1024, size - 1024)])
    write(qemu_img, writer, disk, [(0x0A, 0, size)])
    verify(qemu_img, disk, [(0x0A, 0, size)])
    wrong = Disk(disk.path, passphrase=KEY_B)
    with pytest.raises(QemuError):
        qemu_img.qemu_io(wrong, [f"read -P 10 0 {size}"])
    with qcow2crypt.open(disk.path, KEY_B) as image:
        assert image.pread(512, 0) != b"\x0a" * 512


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_e2_overlay_on_an_encrypted_base(
    writer: str, cluster: int, qemu_img: QemuImg, tmp_path: Path
) -> None:
    base = Disk(tmp_path / "base.qcow2", passphrase=KEY_A)
    overlay = LayeredDisk(tmp_path / "overlay.qcow2", passphrase=KEY_A, base=base)
    size = 4 * MB
    qemu_img.create(base, size, {"cluster_size": 65536})
    write(qemu_img, "qemu-io", base, [(0x0A, 0, size)])
    options = ["encrypt.format=aes", "encrypt.key-secret=new", f"cluster_size={cluster}"]
    words = [word for option in options for word in ("-o", option)]
    naming = ["-u", "-b", str(base.path), "-F", "qcow2"]
    secret = base.secret("new")
    qemu_img.run("create", "-q", *secret, "-f", "qcow2", *naming, *words, overlay.path, str(size))

    def ours(mode: str) -> Image:
        return qcow2crypt.open(overlay.path, KEY_A, mode, secrets={1: KEY_A})

    if writer == "we":
        with ours("r+") as image:
            image.pwrite(b"\x0e" * 1024, 0)
    else:
        qemu_img.qemu_io(overlay, ["write -P 14 0 1024"])
    qemu_img.qemu_io(overlay, ["read -P 14 0 1024", f"read -P 10 1024 {size - 1024}"])
    with ours("r") as image:
        assert image.pread(size, 0) == b"\x0e" * 1024 + b"\x0a" * (size - 1024)
    assert is_clean(qemu_img, overlay)


@pytest.mark.parametrize("writer", WRITERS)
def test_e6_a_write_across_two_unallocated_clusters(
    writer: str, qemu_img: QemuImg, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "e6.qcow2", passphrase=KEY_A)
    qemu_img.create(disk, MB, {"cluster_size": 65536})
    verify(qemu_img, disk, [(0, 0, MB)])
    write(qemu_img, writer, disk, [(0xAA, 0xFE00, 0x400)])
    verify(qemu_img, disk, [(0, 0, 0xFE00), (0xAA, 0xFE00, 0x400), (0, 0x10200, 0xEFE00)])


@pytest.mark.parametrize("shrinker", WRITERS)
def test_what_a_disk_grows_by_is_zeros(shrinker: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    """QEMU shows the old data again, which is why it is asked to shrink."""
    disk = Disk(tmp_path / "grow.qcow2", passphrase=KEY_A)
    qemu_img.create(disk, MB)
    write(qemu_img, "qemu-io", disk, [(7, 0, MB)])
    if shrinker == "qemu-io":
        qemu_img.qemu_io(disk, ["truncate 100k"])
    else:
        with qcow2crypt.open(disk.path, KEY_A, "r+") as image:
            image.truncate(100 * KB)
    with qcow2crypt.open(disk.path, KEY_A, "r+") as image:
        image.truncate(3 * MB)
    verify(qemu_img, disk, [(7, 0, 100 * KB), (0, 100 * KB, 3 * MB - 100 * KB)])


def test_what_we_shrink_by_does_not_come_back_in_qemu(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "shrink.qcow2", passphrase=KEY_A)
    qemu_img.create(disk, MB)
    write(qemu_img, "qemu-io", disk, [(7, 0, MB)])
    with qcow2crypt.open(disk.path, KEY_A, "r+") as image:
        image.truncate(100 * KB)
    qemu_img.qemu_io(disk, ["truncate 1M"])
    verify(qemu_img, disk, [(7, 0, 100 * KB), (0, 100 * KB, MB - 100 * KB)])


@pytest.mark.parametrize("cluster", [512, 65536])
def test_growing_needs_a_larger_l1_table(cluster: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "l1.qcow2", passphrase=KEY_A)
    large = (2 << 30) if cluster == 512 else (1 << 40)
    qemu_img.create(disk, MB, {"cluster_size": cluster})
    with qcow2crypt.open(disk.path, KEY_A, "r+") as image:
        image.pwrite(b"first" * 100, 1000)
        image.truncate(large)
        image.pwrite(b"\xee" * 512, large - 512)
    verify(qemu_img, disk, [(0xEE, large - 512, 512), (0, large - 10000, 9000)])


def test_a_version_2_image_with_snapshots_keeps_its_size(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "v2.qcow2")
    qemu_img.create(disk, MB, {"compat": "0.10"})
    qemu_img.run("snapshot", "-c", "s", disk.path)
    with pytest.raises(QemuError):
        qemu_img.run("resize", disk.path, "2M")
    with (
        qcow2crypt.open(disk.path, mode="r+") as image,
        pytest.raises(UnsupportedFeatureError, match="snapshots"),
    ):
        image.truncate(2 * MB)


# ------------------------------------------------------------------------------ feature bits


def bits(path: Path, at: int) -> int:
    return int.from_bytes(path.read_bytes()[at : at + 8], "big")


def test_lazy_refcounts_set_the_dirty_bit_while_the_image_is_open(
    qemu_img: QemuImg, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "lazy.qcow2", passphrase=KEY_A)
    qemu_img.create(disk, MB, {"lazy_refcounts": True})
    with qcow2crypt.open(disk.path, KEY_A, "r+") as image:
        image.pwrite(b"x" * 512, 0)
        image.flush()
        assert bits(disk.path, 72) == 1
        image.pwrite(b"y" * 512, 70000)
    assert bits(disk.path, 72) == 0
    assert is_clean(qemu_img, disk)
    verify(qemu_img, disk, [(ord("x"), 0, 512), (0, 512, 69488), (ord("y"), 70000, 512)])


def test_unknown_autoclear_bits_go_with_the_first_write(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "auto.qcow2")
    qemu_img.create(disk, MB)
    with disk.path.open("r+b") as file:
        file.seek(88)
        file.write((1 << 63).to_bytes(8, "big"))
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.pread(512, 0)
        assert bits(disk.path, 88) == 1 << 63
        image.pwrite(b"x", 0)
        assert bits(disk.path, 88) == 0


# ------------------------------------------------------------------------------ damage

TARGETS = {"header": 0, "refcount table": 1, "refcount block": 2, "L1 table": 3, "L2 table": 4}


@pytest.mark.parametrize("what", TARGETS)
def test_metadata_is_never_overwritten(what: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    """An L2 entry that leads to metadata: QEMU refuses and marks the image, and so do we."""
    disk = Disk(tmp_path / "bad.qcow2")
    qemu_img.create(disk, MB)
    qemu_img.qemu_io(disk, ["write -P 1 0 1M"])
    entry = TARGETS[what] * 65536 | 1 << 63
    with disk.path.open("r+b") as file:
        file.seek(4 * 65536)
        file.write(entry.to_bytes(8, "big"))
    before = disk.path.read_bytes()
    with qcow2crypt.open(disk.path, mode="r+") as image:
        with pytest.raises(MappingError):
            image.pwrite(b"x" * 512, 0)
        with pytest.raises(ReadOnlyError, match="damaged"):
            image.pwrite(b"x" * 512, 65536)
    after = disk.path.read_bytes()
    assert after[79] == 2, "not marked as corrupt"
    assert after[:79] + after[80:] == before[:79] + before[80:]
    with pytest.raises(QemuError, match="corrupt"):
        qemu_img.qemu_io(disk, ["write -P 1 0 512"])
    with pytest.raises(ReadOnlyError, match="corrupt"):
        qcow2crypt.open(disk.path, mode="r+")


def test_free_space_that_is_none_is_not_given_out(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Refcounts that say the L1 table is free: a new cluster must not go there."""
    disk = Disk(tmp_path / "free.qcow2")
    qemu_img.create(disk, MB)
    with disk.path.open("r+b") as file:
        file.seek(2 * 65536 + 3 * 2)
        file.write(b"\0\0")
    with (
        qcow2crypt.open(disk.path, mode="r+") as image,
        pytest.raises(FormatError, match="counted as free"),
    ):
        image.pwrite(b"x" * 512, 0)
    with pytest.raises(QemuError):
        qemu_img.qemu_io(disk, ["write -P 1 0 512"])


def test_data_that_is_counted_as_free_is_not_cut_off(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "cut.qcow2")
    qemu_img.create(disk, MB)
    qemu_img.qemu_io(disk, ["write -P 1 512k 64k", "write -P 2 0 64k"])
    host = next(row["offset"] for row in qemu_img.map(disk) if not row["start"])
    assert host + 65536 == disk.path.stat().st_size, "it is the last cluster of the file"
    with disk.path.open("r+b") as file:
        file.seek(2 * 65536 + host // 65536 * 2)
        file.write(b"\0\0")
    assert qemu_img.check(disk)["corruptions"]
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.truncate(256 * KB)
    qemu_img.qemu_io(disk, ["read -P 2 0 64k"])
    qemu_img.run("check", "-r", "all", disk.path)
    verify(qemu_img, disk, [(2, 0, 64 * KB), (0, 64 * KB, 192 * KB)])


def test_damage_in_a_backing_file_does_not_mark_the_overlay(
    qemu_img: QemuImg, tmp_path: Path
) -> None:
    base, overlay = Disk(tmp_path / "base.qcow2"), Disk(tmp_path / "overlay.qcow2")
    qemu_img.create(base, MB)
    qemu_img.qemu_io(base, ["write -P 1 0 1M"])
    qemu_img.create(overlay, MB, {"backing_file": "base.qcow2", "backing_fmt": "qcow2"})
    with base.path.open("r+b") as file:
        file.seek(4 * 65536)
        file.write((1 << 63 | 0x12200).to_bytes(8, "big"))  # not a multiple of the cluster size
    with qcow2crypt.open(overlay.path, mode="r+") as image:
        with pytest.raises(MappingError):
            image.pwrite(b"x" * 512, 512)
        image.pwrite(b"x" * 512, 65536)
    assert bits(overlay.path, 72) == 0
    assert is_clean(qemu_img, overlay)


def test_a_dirty_image_is_repaired_first(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "dirty.qcow2")
    qemu_img.create(disk, MB, {"lazy_refcounts": True})
    with disk.path.open("r+b") as file:
        file.seek(79)
        file.write(b"\1")
    with Qcow2Editor(HostFile(disk.path, writable=True)) as image:
        assert bits(disk.path, 72) == 0
        image.pwrite(b"x" * 512, 0)
    assert is_clean(qemu_img, disk)
