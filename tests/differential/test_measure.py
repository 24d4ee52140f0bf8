"""``measure`` by qemu-img and by us: the same numbers, in the same words."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest
from support.differential import both_programs, without_holes

import qcow2crypt
from qcow2crypt.testing.witness import Disk, QemuImg

MIB = 1 << 20
S0 = "--object secret,id=s0,data=hunter2"
TO_AES = "-o encrypt.format=aes,encrypt.key-secret=s0"
AES = "driver=qcow2,encrypt.key-secret=s0,file.filename=aes.qcow2"

MAKE = f"""
convert -O qcow2 disk.raw plain.qcow2
convert -O qcow2 -c -o cluster_size=4k disk.raw packed.qcow2
convert -O qcow disk.raw one.qcow
convert {S0} -O qcow2 {TO_AES} disk.raw aes.qcow2
create -q -f qcow2 -o compat=0.10 two.qcow2 3M
create -q -f qcow2 -b disk.raw -F raw over.qcow2 5M
create -q -f qcow2 -o extended_l2=on sub.qcow2 3M
create -q -f qcow2 noted.qcow2 10M
bitmap --add noted.qcow2 b0
bitmap --add -g 512 noted.qcow2 one-with-a-long-name
bitmap --add --disable noted.qcow2 zwéi
convert -O qcow2 disk.raw snap.qcow2
bitmap --add snap.qcow2 b0
snapshot -c before snap.qcow2
"""

LINES = [
    "measure",
    "measure --size 10G",
    "measure --size 1",
    "measure --size 0",
    "measure --size 0 -O qcow2",
    "measure --size 1 -O qcow2",
    "measure --size 1000 --output=json",
    "measure --size 7E",
    "measure --size 9223372036854775807",
    "measure --size 8E",
    "measure --size -1",
    "measure --size x",
    "measure --size 10G -O qcow2",
    "measure --size 10G -O qcow2 --output=json",
    "measure --size 10G -O qcow2 --output=xml",
    "measure --size 1M --size 2M -O qcow2",
    "measure --size 100M -O qcow2 -o cluster_size=512",
    "measure --size 128G -O qcow2 -o cluster_size=512",
    "measure --size 200G -O qcow2 -o cluster_size=512",
    "measure --size 64P -O qcow2",
    "measure --size 100M -O qcow2 -o cluster_size=2M",
    "measure --size 100M -O qcow2 -o cluster_size=1000",
    "measure --size 100M -O qcow2 -o cluster_size=4M",
    "measure --size 1G -O qcow2 -o refcount_bits=1",
    "measure --size 1G -O qcow2 -o refcount_bits=64,cluster_size=512",
    "measure --size 1G -O qcow2 -o refcount_bits=7",
    "measure --size 1G -O qcow2 -o compat=0.10",
    "measure --size 1G -O qcow2 -o compat=0.10,refcount_bits=8",
    "measure --size 1G -O qcow2 -o compat=2",
    "measure --size 1G -O qcow2 -o extended_l2=on",
    "measure --size 1G -O qcow2 -o extended_l2=on,cluster_size=16k",
    "measure --size 1G -O qcow2 -o extended_l2=on,cluster_size=4k",
    "measure --size 1G -O qcow2 -o preallocation=off",
    "measure --size 1G -O qcow2 -o preallocation=metadata",
    "measure --size 1G -O qcow2 -o preallocation=falloc",
    "measure --size 1G -O qcow2 -o preallocation=full",
    "measure --size 1G -O qcow2 -o preallocation=bogus",
    "measure --size 1G -O qcow2 -o bogus=1",
    "measure --size 1G -O qcow2 -o lazy_refcounts=on",
    "measure --size 1G -O qcow2 -o compression_type=zstd",
    "measure --size 1G -O qcow2 -o data_file=x",
    "measure --size 1G -O qcow2 -o size=5G",
    "measure --size 1G -O raw -o cluster_size=4k",
    "measure --size 1G -O raw -o preallocation=full",
    "measure --size 1G -O qcow",
    "measure --size 1G -O vmdk",
    "measure --size 1G -O bogus",
    f"measure --size 1G {S0} -O qcow2 {TO_AES}",
    f"measure --size 1G {S0} -O qcow2 -o encryption=on,encrypt.key-secret=s0",
    "measure --size 1G -f raw",
    "measure --size 1G -l before",
    "measure --size 1G --image-opts",
    "measure --size 1G -U",
    "measure --size 1G -q",
    "measure --size 1G disk.raw",
    "measure disk.raw zero.raw",
    "measure missing",
    "measure -f qcow2 disk.raw",
    "measure -f bogus disk.raw",
    "measure aes.qcow2",
    f"measure {S0} -O qcow2 --image-opts {AES}",
    f"measure {S0} -O qcow2 {TO_AES} --image-opts {AES}",
    f"measure {S0} -O raw --image-opts {AES}",
    "measure --image-opts driver=raw,file.filename=disk.raw",
    "measure --image-opts -f raw driver=raw,file.filename=disk.raw",
    "measure -O qcow2 -o backing_file=x,backing_fmt=raw disk.raw",
    "measure -O qcow2 -o preallocation=full disk.raw",
    "measure -O qcow2 -o compat=0.10 noted.qcow2",
    "measure -O qcow2 --output=json noted.qcow2",
    "measure -O qcow2 -l before snap.qcow2",
    "measure -O qcow2 -l snapshot.name=before snap.qcow2",
    "measure -O qcow2 -l snapshot.id=1,snapshot.name=before snap.qcow2",
    "measure -O qcow2 -l nope snap.qcow2",
    "measure -O qcow2 -l nope disk.raw",
]
FILES = (
    *("disk.raw", "zero.raw", "odd.raw", "plain.qcow2", "packed.qcow2", "one.qcow", "two.qcow2"),
    *("over.qcow2", "sub.qcow2", "noted.qcow2", "snap.qcow2"),
)


def disk_content() -> bytes:
    data = bytearray(random.Random(9).randbytes(3 * MIB))
    for start, length in ((70_000, 600_000), (1_000_000, 4096), (1_500_000, MIB)):
        data[start : start + length] = bytes(length)
    data[1_800_000:1_800_100] = b"x" * 100
    return bytes(data)


@pytest.fixture(scope="module")
def folder(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, all made by qemu-img."""
    place = tmp_path_factory.mktemp("measure")
    (place / "disk.raw").write_bytes(disk_content())
    with (place / "zero.raw").open("wb") as file:
        file.truncate(3 * MIB)
    (place / "odd.raw").write_bytes(b"odd" * 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in MAKE.strip().splitlines():
            qemu_img.run(*shlex.split(line))
    qemu_img.qemu_io(Disk(place / "sub.qcow2"), ["write -q 3000 70000", "write -q -z 1M 300k"])
    for path in place.glob("*.qcow2"):
        without_holes(path)
    return place


def same(qemu_img: QemuImg, line: str) -> None:
    theirs, ours = both_programs(qemu_img, shlex.split(line))
    # qemu-img shows all of its help for an unknown letter, on standard output.
    wanted = "" if "invalid option" in theirs.stderr else theirs.stdout
    status = 1 if "invalid option" in theirs.stderr else theirs.status
    assert (ours.status, ours.stdout) == (status, wanted), (theirs, ours)
    assert ours.status == 0 or "qcow2crypt: " in ours.stderr
    assert "a fault of" not in ours.stderr


@pytest.mark.parametrize("line", LINES)
def test_lines(line: str, folder: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    same(qemu_img, line)


@pytest.mark.parametrize(
    "options", ["", "-o cluster_size=512", "-o cluster_size=4k", "-o cluster_size=2M"]
)
@pytest.mark.parametrize("name", FILES)
def test_sources(
    name: str, options: str, folder: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    same(qemu_img, f"measure -O qcow2 {options} {name}")


@pytest.mark.parametrize("seed", range(40))
def test_random_sizes(seed: int, qemu_img: QemuImg) -> None:
    rng = random.Random(seed)
    bits = rng.choice([9, 10, 12, 14, 16, 18, 21])
    words = [f"cluster_size={1 << bits}", f"refcount_bits={1 << rng.randrange(7)}"]
    if bits >= 14 and rng.random() < 0.4:
        words.append("extended_l2=on")
    size = rng.randrange(1 << rng.randrange(1, min(bits * 2 + 18, 55)))
    same(qemu_img, f"measure --size {size} -O qcow2 -o {','.join(words)}")


def test_the_numbers_hold(folder: Path, tmp_path: Path) -> None:
    """The file that convert makes is as long as was promised."""
    target = tmp_path / "new.qcow2"
    with qcow2crypt.open(folder / "plain.qcow2") as image:
        found = qcow2crypt.measure("qcow2", source=image)
    qcow2crypt.convert(folder / "plain.qcow2", target, target_format="qcow2", sparse_size=0)
    assert target.stat().st_size <= found.fully_allocated
    qcow2crypt.convert(folder / "plain.qcow2", target, target_format="qcow2")
    assert target.stat().st_size <= found.required
