"""Internal snapshots: the same steps by this package and by QEMU's tools, on two copies.

After every step both images have the same disk, the same snapshots with the same disks, and
``qemu-img check`` finds nothing in either, not even a leak.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.errors import SnapshotNotFoundError, TargetError, UnsupportedFeatureError
from qcow2crypt.testing.witness import Disk, Options, QemuError, QemuImg

SECRET = "hunter2"

KINDS: dict[str, Options] = {
    "v3": {"cluster_size": 4096},
    "v2": {"cluster_size": 4096, "compat": "0.10"},
    "512": {"cluster_size": 512},
    "2M": {"cluster_size": "2M"},
    "extended": {"cluster_size": 16384, "extended_l2": True},
    "lazy": {"cluster_size": 4096, "lazy_refcounts": True},
    "refcount_bits 4": {"cluster_size": 4096, "refcount_bits": 4},
    "refcount_bits 8": {"cluster_size": 1024, "refcount_bits": 8},
    "refcount_bits 64": {"cluster_size": 4096, "refcount_bits": 64},
    "zstd": {"cluster_size": 4096, "compression_type": "zstd"},
}


class Twins:
    """Two images, one for us and one for QEMU."""

    def __init__(
        self, qemu: QemuImg, home: Path, options: Options, size: int, *, encrypted: bool
    ) -> None:
        self.qemu = qemu
        self.secret = SECRET if encrypted else None
        self.ours = Disk(home / "ours.qcow2", passphrase=self.secret)
        self.theirs = Disk(home / "theirs.qcow2", passphrase=self.secret)
        for disk in (self.ours, self.theirs):
            qemu.create(disk, size, options)

    def io(self, *commands: str) -> None:
        """The same qemu-io commands on both."""
        for disk in (self.ours, self.theirs):
            self.qemu.qemu_io(disk, commands)

    def qemu_snapshot(self, disk: Disk, letter: str, name: str) -> bool:
        done = self.qemu.run(
            "snapshot",
            *disk.secret("old"),
            f"-{letter}",
            name,
            "--image-opts",
            disk.options("old"),
            check=False,
        )
        return done.returncode == 0

    def snapshot(self, letter: str, name: str) -> bool:
        """The same by both; whether it worked."""
        try:
            with qcow2crypt.open(self.ours.path, self.secret, "r+") as image:
                operation = {
                    "c": image.create_snapshot,
                    "a": image.apply_snapshot,
                    "d": image.delete_snapshot,
                }[letter]
                operation(name)
            worked = True
        except (SnapshotNotFoundError, TargetError):
            worked = False
        assert self.qemu_snapshot(self.theirs, letter, name) == worked
        return worked

    def agree(self) -> None:
        """Disks, snapshots and their disks are the same, and both images are sound."""
        report = self.qemu.check(self.ours)
        assert not report.get("corruptions")
        assert not report.get("leaks"), report
        assert not self.qemu.check(self.theirs).get("leaks")
        assert self.qemu.compare(self.ours, self.theirs)
        with (
            qcow2crypt.open(self.ours.path, self.secret) as ours,
            qcow2crypt.open(self.theirs.path, self.secret) as theirs,
        ):
            assert ours.size == theirs.size
            rows = [
                (s.id, s.name, s.disk_size, s.vm_state_size, s.icount) for s in ours.snapshots()
            ]
            assert rows == [
                (s.id, s.name, s.disk_size, s.vm_state_size, s.icount) for s in theirs.snapshots()
            ]
            for row in rows:
                with ours.snapshot(row[0]) as first, theirs.snapshot(row[0]) as second:
                    assert first.size == second.size
                    assert first.pread(first.size, 0) == second.pread(second.size, 0)
                self._qemu_reads(row[0], ours.snapshot(row[0]).readall())

    def _qemu_reads(self, snapshot_id: str, expected: bytes) -> None:
        """QEMU sees in our image what we see (in the present size of the disk)."""
        raw = self.ours.path.with_suffix(".raw")
        self.qemu.run(
            "convert",
            *self.ours.secret("old"),
            "-l",
            f"snapshot.id={snapshot_id}",
            "--image-opts",
            self.ours.options("old"),
            "-O",
            "raw",
            raw,
        )
        found = raw.read_bytes()
        length = min(len(found), len(expected))
        assert found[:length] == expected[:length]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "aes"])
@pytest.mark.parametrize("kind", KINDS)
def test_random_steps(qemu_img: QemuImg, tmp_path: Path, kind: str, encrypted: bool) -> None:
    """Writes, zeros, discards and compressed clusters between snapshots made, applied, deleted."""
    noise = random.Random(f"{kind} {encrypted}")
    cluster = {"2M": 2 << 20}.get(str(KINDS[kind]["cluster_size"])) or int(
        KINDS[kind]["cluster_size"]
    )
    clusters = 6 if cluster > 65536 else 90
    twins = Twins(qemu_img, tmp_path, KINDS[kind], clusters * cluster, encrypted=encrypted)
    names: list[str] = []
    for step in range(14):
        at = noise.randrange(clusters) * cluster
        room = clusters * cluster - at
        length = min(room, noise.randint(1, 5 * cluster) // 512 * 512 or 512)
        skew = noise.choice([0, 0, 512]) if length < room else 0
        twins.io(
            f"write -q -P {step + 1} {at + skew} {length}",
            noise.choice(
                [
                    f"write -q -z {at} {min(cluster, room)}",
                    f"write -q -z -u {at} {min(2 * cluster, room)}",
                    f"discard -q {at} {min(cluster, room)}",
                    f"write -q -P 200 {at} {min(cluster, room)}",
                ]
            ),
        )
        letter = noise.choice("cccad")
        name = f"s{step}" if letter == "c" else noise.choice([*names, "nothing"])
        if twins.snapshot(letter, name):
            if letter == "c":
                names.append(name)
            elif letter == "d":
                names.remove(name)
        twins.agree()


def test_compressed_clusters_are_shared(qemu_img: QemuImg, tmp_path: Path) -> None:
    twins = Twins(qemu_img, tmp_path, {"cluster_size": 4096}, 1 << 20, encrypted=False)
    twins.io("write -q -c -P 5 0 64k", "write -q -P 6 128k 64k")
    for letter, name in (("c", "one"), ("c", "two"), ("d", "one"), ("a", "two"), ("d", "two")):
        assert twins.snapshot(letter, name)
        twins.io(f"write -q -P {ord(letter)} 8k 4k")
        twins.agree()


def test_other_sizes(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Going back to a snapshot brings its size back, larger and smaller."""
    twins = Twins(qemu_img, tmp_path, {"cluster_size": 512}, 40960, encrypted=True)
    twins.io("write -q -P 5 0 40960")
    assert twins.snapshot("c", "small")
    for disk in (twins.ours, twins.theirs):
        qemu_img.run("resize", *disk.secret("old"), "--image-opts", disk.options("old"), "1M")
    twins.io("write -q -P 6 20k 900k")
    assert twins.snapshot("c", "large")
    for name in ("small", "large", "small"):
        assert twins.snapshot("a", name)
        twins.agree()


def test_ids_and_names(qemu_img: QemuImg, tmp_path: Path) -> None:
    """A name that is another snapshot's id: apply takes the id, delete takes the name.

    QEMU deletes by name only; so does the command, and the library takes an id too.
    """
    twins = Twins(qemu_img, tmp_path, {}, 1 << 20, encrypted=False)
    for name in ("one", "1", "one", "", "ünï ,=", "4"):
        twins.io(f"write -q -P {len(name)} 0 64k")
        assert twins.snapshot("c", name)
    for letter, name in (("a", "1"), ("d", "1"), ("d", "one"), ("a", "4"), ("d", "4"), ("d", "x")):
        twins.snapshot(letter, name)
        twins.agree()
    assert twins.snapshot("c", "the id goes on")
    twins.agree()


def test_images_made_by_qemu_with_flags_in_snapshots(qemu_img: QemuImg, tmp_path: Path) -> None:
    """QEMU sets COPIED in tables that only a snapshot has: they must not come back to life."""
    twins = Twins(qemu_img, tmp_path, {"cluster_size": 4096}, 1 << 20, encrypted=False)
    twins.io("write -q -P 1 0 64k")
    for disk in (twins.ours, twins.theirs):
        for name in ("a", "b"):
            assert twins.qemu_snapshot(disk, "c", name)
        qemu_img.qemu_io(disk, ["write -q -P 2 0 1M"])
        assert twins.qemu_snapshot(disk, "d", "a")
    assert twins.snapshot("a", "b")
    twins.agree()
    twins.io("write -q -P 3 4k 4k")
    twins.agree()


@pytest.mark.parametrize("bits", [1, 2])
def test_refcounts_too_narrow(qemu_img: QemuImg, tmp_path: Path, bits: int) -> None:
    """What does not fit is refused before anything has changed; QEMU leaks clusters here."""
    disk = Disk(tmp_path / "narrow.qcow2")
    qemu_img.create(disk, 1 << 20, {"refcount_bits": bits})
    qemu_img.qemu_io(disk, ["write -q -P 1 0 128k"])
    with qcow2crypt.open(disk.path, mode="r+") as image:
        for number in range((1 << bits) - 2):
            image.create_snapshot(f"{number}")
    before = disk.path.read_bytes()
    with (
        qcow2crypt.open(disk.path, mode="r+") as image,
        pytest.raises(TargetError, match=r"refcount of \d bits"),
    ):
        image.create_snapshot("one too many")
    assert disk.path.read_bytes() == before
    with pytest.raises(QemuError, match="Invalid argument"):
        qemu_img.run("snapshot", "-c", "one", disk.path)


def test_refused_as_qemu_refuses(qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "external.qcow2")
    qemu_img.create(disk, 1 << 20, {"data_file": str(tmp_path / "data.raw")})
    with (
        qcow2crypt.open(disk.path, mode="r+") as image,
        pytest.raises(UnsupportedFeatureError, match="external data file"),
    ):
        image.create_snapshot("one")
    disk = Disk(tmp_path / "bitmap.qcow2")
    qemu_img.create(disk, 1 << 20)
    qemu_img.run("bitmap", "--add", disk.path, "b")
    with qcow2crypt.open(disk.path, mode="r+") as image:
        image.create_snapshot("one")
        with pytest.raises(UnsupportedFeatureError, match="bitmaps"):
            image.apply_snapshot("one")
    bitmaps = qemu_img.info(disk)["format-specific"]["data"]["bitmaps"]
    assert [bitmap["flags"] for bitmap in bitmaps] == [["auto"]]
    assert not qemu_img.check(disk).get("leaks")


def test_a_deleted_snapshot_gives_disk_space_back(qemu_img: QemuImg, tmp_path: Path) -> None:
    twins = Twins(qemu_img, tmp_path, {}, 8 << 20, encrypted=True)
    twins.io("write -q -P 1 0 8M")
    assert twins.snapshot("c", "one")
    twins.io("write -q -P 2 0 8M")
    for letter in ("d", "a"):
        if letter == "a":
            assert twins.snapshot("c", "two")
            twins.io("write -q -P 3 0 8M")
        before = twins.ours.path.stat().st_blocks
        assert twins.snapshot(letter, "one" if letter == "d" else "two")
        assert twins.ours.path.stat().st_blocks * 512 < before * 512 - (7 << 20)
        twins.agree()


def test_disk_of_no_bytes(qemu_img: QemuImg, tmp_path: Path) -> None:
    twins = Twins(qemu_img, tmp_path, {}, 0, encrypted=False)
    for letter in "cad":
        assert twins.snapshot(letter, "one")
        assert not qemu_img.check(twins.ours).get("leaks")


def test_writes_between_snapshots_of_one_open_image(qemu_img: QemuImg, tmp_path: Path) -> None:
    """What waits in memory is in the snapshot, and what was read before is not believed after."""
    disk = Disk(tmp_path / "open.qcow2", passphrase=SECRET)
    qemu_img.create(disk, 1 << 20, {"cluster_size": 4096, "lazy_refcounts": True})
    with qcow2crypt.open(disk.path, SECRET, "r+") as image:
        image.pwrite(b"first" * 1000, 100)
        one = image.create_snapshot("one")
        image.pwrite(b"other" * 2000, 0)
        two = image.create_snapshot("two")
        image.write_zeroes(0, 1 << 20)
        assert [one.id, two.id] == ["1", "2"]
        image.apply_snapshot("one")
        assert image.pread(5000, 100) == b"first" * 1000
        image.pwrite(b"third", 0)
        image.delete_snapshot("one")
        assert image.pread(10, 0) == b"third" + bytes(5)
        image.apply_snapshot("2")
        assert image.pread(10000, 0) == b"other" * 2000
        image.delete_snapshot("two")
        image.truncate(2 << 20)
        image.pwrite(b"end", (2 << 20) - 3)
    assert not qemu_img.check(disk).get("leaks")
    assert qemu_img.info(disk)["dirty-flag"] is False
