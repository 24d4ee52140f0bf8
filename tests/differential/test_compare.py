"""``compare`` by qemu-img and by us: the same words on standard output, the same exit code."""

from __future__ import annotations

import random
import shlex
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from support.differential import Outcome, both_programs

import qcow2crypt
from qcow2crypt.errors import ComparisonError
from qcow2crypt.testing.witness import Disk, QemuImg

MIB = 1 << 20
S0 = "--object secret,id=s0,data=hunter2"
S1 = "--object secret,id=s1,data=other"
AES = "driver=qcow2,encrypt.key-secret=s0,file.filename=aes.qcow2"
AES1 = "driver=qcow2,encrypt.key-secret=s1,file.filename=aes1.qcow2"
PLAIN = "driver=qcow2,file.filename=plain.qcow2"
AES_S1 = "-o encrypt.format=aes,encrypt.key-secret=s1"
CHAIN = "driver=qcow2,encrypt.key-secret=s1,file.filename=over.qcow2,backing.encrypt.key-secret=s0"

MAKE = f"""
convert -O qcow2 disk.raw plain.qcow2
convert -O qcow2 -o cluster_size=4k,compat=0.10 disk.raw small.qcow2
convert -O qcow2 -o cluster_size=2M disk.raw large.qcow2
convert -O qcow2 -c disk.raw packed.qcow2
convert -O qcow disk.raw one.qcow
convert -O qcow2 changed.raw changed.qcow2
convert {S0} -O qcow2 -o encrypt.format=aes,encrypt.key-secret=s0 disk.raw aes.qcow2
convert {S1} -O qcow2 {AES_S1} disk.raw aes1.qcow2
convert -O qcow2 -S 0 zero.raw written.qcow2
create -q -f qcow2 empty.qcow2 {MIB}
create -q -f qcow2 empty2.qcow2 {2 * MIB}
create -q -f qcow2 -o preallocation=metadata noted.qcow2 {MIB}
create -q -f qcow2 -b disk.raw -F raw on-raw.qcow2
create -q -f qcow2 -b plain.qcow2 -F qcow2 on-plain.qcow2
create -q -f qcow2 -b disk.raw -F raw longer.qcow2 {2 * MIB}
create -q -f qcow2 -b longer.raw -F raw shorter.qcow2 {MIB}
create {S1} -q -f qcow2 -b aes.qcow2 -F qcow2 {AES_S1} -u over.qcow2 {MIB}
"""
FILES = (
    *("disk.raw", "same.raw", "changed.raw", "longer.raw", "longer-data.raw", "zero.raw"),
    *("empty.raw", "plain.qcow2", "small.qcow2", "large.qcow2", "packed.qcow2", "one.qcow"),
    *("changed.qcow2", "written.qcow2", "empty.qcow2", "empty2.qcow2", "on-raw.qcow2"),
    *("on-plain.qcow2", "longer.qcow2", "shorter.qcow2", "marked.qcow2"),
)

Same: TypeAlias = Callable[[str], Outcome]


def disk_content() -> bytes:
    """Data, clusters of zeros in a row, single sectors, data again."""
    data = bytearray(random.Random(5).randbytes(MIB))
    data[200_000:500_000] = bytes(300_000)
    data[300_000:300_010] = b"0123456789"
    data[900_000:] = bytes(MIB - 900_000)
    return bytes(data)


def damage(path: Path, index: int, entry: int) -> bytes:
    """The image with another L2 entry (of the first L2 table)."""
    data = bytearray(path.read_bytes())
    (l1,) = struct.unpack_from(">Q", data, 40)
    (l2,) = struct.unpack_from(">Q", data, l1)
    struct.pack_into(">Q", data, (l2 & 0x00FFFFFFFFFFFE00) + 8 * index, entry)
    return bytes(data)


def broken_data(path: Path, index: int) -> bytes:
    """The image with noise in place of the data of a compressed cluster."""
    data = bytearray(path.read_bytes())
    (l1,) = struct.unpack_from(">Q", data, 40)
    (l2,) = struct.unpack_from(">Q", data, l1)
    (entry,) = struct.unpack_from(">Q", data, (l2 & 0x00FFFFFFFFFFFE00) + 8 * index)
    at = entry & (1 << 54) - 1
    data[at : at + 20] = b"\xff" * 20
    return bytes(data)


@pytest.fixture(scope="module")
def folder(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, all made by qemu-img."""
    place = tmp_path_factory.mktemp("compare")
    disk = disk_content()
    changed = bytearray(disk)
    changed[700_001] ^= 1
    (place / "disk.raw").write_bytes(disk)
    (place / "same.raw").write_bytes(disk)
    (place / "changed.raw").write_bytes(changed)
    (place / "longer.raw").write_bytes(disk + bytes(70_000))
    (place / "longer-data.raw").write_bytes(disk + bytes(70_000) + b"end".ljust(512))
    (place / "zero.raw").write_bytes(bytes(MIB))
    (place / "empty.raw").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in MAKE.strip().splitlines():
            qemu_img.run(*shlex.split(line))
        qemu_img.create(Disk(place / "marked.qcow2"), MIB)
        qemu_img.qemu_io(Disk(place / "marked.qcow2"), [f"write -q -z 0 {MIB}"])
    (place / "bad.qcow2").write_bytes(damage(place / "plain.qcow2", 10, 1 << 63 | 0x50200))
    (place / "bad-data.qcow2").write_bytes(broken_data(place / "packed.qcow2", 4))
    return place


@pytest.fixture
def same(folder: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch) -> Same:
    """Give one line to both programs: the same exit code, the same standard output."""
    monkeypatch.chdir(folder)

    def run(line: str) -> Outcome:
        theirs, ours = both_programs(qemu_img, shlex.split(line))
        assert (ours.status, ours.stdout) == (theirs.status, theirs.stdout), (theirs, ours)
        return ours

    return run


@pytest.mark.parametrize("mode", ["", "-s "])
@pytest.mark.parametrize("second", FILES)
@pytest.mark.parametrize("first", ["disk.raw", "plain.qcow2", "empty.qcow2", "longer.qcow2"])
def test_every_pair(first: str, second: str, mode: str, same: Same) -> None:
    same(f"compare {mode}{first} {second}")


LINES = [
    "compare",
    "compare disk.raw",
    "compare disk.raw same.raw plain.qcow2",
    "compare -x disk.raw same.raw",
    "compare missing same.raw",
    "compare disk.raw missing",
    "compare -f qcow2 disk.raw same.raw",
    "compare -F qcow2 disk.raw same.raw",
    "compare -f raw -F raw disk.raw same.raw",
    "compare -f raw -F raw plain.qcow2 plain.qcow2",
    "compare -f nope disk.raw same.raw",
    "compare -T bogus disk.raw same.raw",
    "compare -T none -U disk.raw same.raw",
    "compare -q disk.raw same.raw",
    "compare -q disk.raw changed.raw",
    "compare -q disk.raw longer.raw",
    "compare -qs disk.raw longer.raw",
    "compare --image-opts -f raw driver=raw,file.filename=disk.raw same.raw",
    f"compare --image-opts driver=raw,file.filename=disk.raw {PLAIN}",
    "compare aes.qcow2 plain.qcow2",
    f"compare {S0} aes.qcow2 plain.qcow2",
    f"compare {S0} --image-opts {AES} {PLAIN}",
    f"compare {S0} -s --image-opts {AES} {PLAIN}",
    f"compare {S0} -s --image-opts {AES} {AES}",
    f"compare {S0} -s --image-opts {AES} driver=qcow2,file.filename=packed.qcow2",
    f"compare {S0} {S1} -s --image-opts {AES} {AES1}",
    f"compare {S0} --image-opts {AES} {AES1}",
    f"compare {S0} {S1} --image-opts {AES} driver=qcow2,file.filename=changed.qcow2",
    f"compare {S0} {S1} --image-opts {AES} {CHAIN}",
    f"compare {S0} {S1} -s --image-opts {CHAIN} {PLAIN}",
    # Damaged images: 3 for tables, 4 for data; a difference before the damage is told first.
    "compare bad.qcow2 plain.qcow2",
    "compare plain.qcow2 bad.qcow2",
    "compare bad.qcow2 empty.qcow2",
    "compare bad-data.qcow2 plain.qcow2",
    "compare plain.qcow2 bad-data.qcow2",
    "compare -q longer.raw bad-data.qcow2",
    "compare bad-data.qcow2 empty.qcow2",
]


@pytest.mark.parametrize("line", LINES)
def test_lines(line: str, same: Same) -> None:
    done = same(line)
    words = [word for word in done.stderr.splitlines() if "warning" not in word]
    assert bool(words) == (done.status > 1 or (not done.stdout and "-q" not in line))


def test_the_library_names_the_image_and_the_place(folder: Path) -> None:
    with (
        qcow2crypt.open(folder / "bad-data.qcow2") as bad,
        qcow2crypt.open(folder / "plain.qcow2") as good,
        pytest.raises(ComparisonError) as caught,
    ):
        qcow2crypt.compare(good, bad)
    assert caught.value.image == str(folder / "bad-data.qcow2")
    assert (caught.value.guest_offset, caught.value.in_tables) == (4 * 65536, False)


@pytest.mark.parametrize("seed", range(12))
def test_random_scripts(
    seed: int, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images, the same writes to both but for one, in other clusters."""
    rng = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    disks = [Disk(tmp_path / name) for name in ("a", "b")]
    scripts: list[list[str]] = [[], []]
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(MIB), rng.randrange(1, 60_000)
        length = min(length, MIB - at)
        kind = rng.choice([f"-P {rng.randrange(1, 255)}", "-P 0", "-z", "-z -u"])
        for script in scripts if rng.random() < 0.8 else [rng.choice(scripts)]:
            script.append(f"write -q {kind} {at} {length}")
    for disk, script in zip(disks, scripts, strict=True):
        options = {"cluster_size": rng.choice([512, 4096, 65536])}
        qemu_img.create(disk, MIB, options)
        qemu_img.qemu_io(disk, script or ["read -q 0 512"])
    theirs, ours = both_programs(qemu_img, ["compare", "a", "b"])
    assert (ours.status, ours.stdout) == (theirs.status, theirs.stdout), scripts
