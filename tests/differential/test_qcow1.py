"""qcow version 1: images made by qemu-img and qemu-io are read the same, and mapped the same.

Plain and AES, compressed, backed, and of geometries that qemu-img never makes but opens.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.differential import PASSPHRASE, Case, NewCase

import qcow2crypt
from qcow2crypt.errors import SecretRequiredError
from qcow2crypt.testing.witness import Disk, escape

MIB = 1 << 20
SIZE = 3 * MIB + 1024
AES = "encrypt.format=aes,encrypt.key-secret=new"
GEOMETRIES = ((9, 6), (9, 12), (12, 9), (16, 6), (16, 13))


def create(
    case: Case, size: int = SIZE, passphrase: str | None = None, *more: str, name: str = "image"
) -> Disk:
    """An empty image by qemu-img."""
    words: list[str] = []
    if passphrase is not None:
        words = ["--object", f"secret,id=new,data={escape(passphrase)}", "-o", AES]
    path = case.folder / name
    case.theirs("create", "-q", "-f", "qcow", *words, *more, path, str(size))
    return Disk(path, "qcow", passphrase)


def with_geometry(disk: Disk, cluster_bits: int, l2_bits: int, *, backed: bool) -> Disk:
    """The same empty image with clusters and L2 tables of other sizes."""
    data = bytearray(disk.path.read_bytes())
    data[32], data[33] = cluster_bits, l2_bits
    if not backed:
        struct.pack_into(">Q", data, 40, 4096)  # room for a longer L1 table
        data = data[:48].ljust(64 << 10, b"\0")
    disk.path.write_bytes(data)
    return disk


def script(seed: int, size: int = SIZE) -> Iterator[str]:
    """Writes of all lengths, at the edges and in the middle of clusters."""
    rng = random.Random(seed)
    for number in range(12):
        start = rng.randrange(size)
        if rng.random() < 0.4:
            start -= start % rng.choice((512, 4096, 65536))
        length = min(size - start, rng.randrange(1, 1 << rng.randrange(1, 19)))
        yield f"write -q -P {number + 1} {start} {length}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_scripts(
    new_case: NewCase, geometry: tuple[int, int], passphrase: str | None, seed: int
) -> None:
    with new_case() as case:
        image = with_geometry(create(case, SIZE, passphrase), *geometry, backed=False)
        case.qemu_io(image, *script(seed))
        case.both_read_the_same(image)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("base_size", [SIZE, SIZE + 4096, SIZE - 100_352, 0])
def test_over_a_raw_base(new_case: NewCase, base_size: int, passphrase: str | None) -> None:
    with new_case() as case:
        case.raw(random.Random(1).randbytes(base_size), "base")
        image = create(case, SIZE, passphrase, "-b", "base", "-F", "raw")
        case.qemu_io(image, *script(base_size))
        case.both_read_the_same(image)


def test_under_a_qcow2_overlay(new_case: NewCase) -> None:
    with new_case() as case:
        base = create(case, SIZE, None, name="base")
        case.qemu_io(base, *script(1))
        top = Disk(case.folder / "top")
        case.theirs("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow", top.path)
        case.qemu_io(top, "write -q -P 77 70000 5000", "write -q -z 1M 300k")
        case.both_read_the_same(top)


def test_aes_over_aes_with_another_passphrase(new_case: NewCase) -> None:
    with new_case() as case:
        base = create(case, SIZE, "lower", name="base")
        case.qemu_io(base, *script(2))
        top = create(case, SIZE, "upper", "-u", "-b", "base", "-F", "qcow")
        wanted = case.guest_by_them(base)
        with qcow2crypt.open(top.path, "upper", secrets={1: "lower"}) as image:
            assert image.readall() == wanted
        with qcow2crypt.open(top.path, "upper", secrets={"base": "lower"}) as image:
            assert {extent.depth for extent in image.extents()} == {1}
        with pytest.raises(SecretRequiredError, match="base"):
            qcow2crypt.open(top.path, "upper")


@pytest.mark.parametrize("seed", range(3))
def test_compressed(new_case: NewCase, seed: int) -> None:
    """7.2 makes the image, and ends with exit code 1 without a word."""
    with new_case() as case:
        rng = random.Random(seed)
        clusters = (rng.choice((bytes(4096), b"text " * 819 + b"x", rng.randbytes(4096)))
                    for _ in range(200))  # fmt: skip
        source = case.raw(b"".join(clusters))
        path = case.folder / "image"
        case.theirs("convert", "-c", "-O", "qcow", "-f", "raw", source.path, path, check=False)
        image = Disk(path, "qcow")
        with qcow2crypt.open(path) as opened:
            kinds = {extent.kind.value for extent in opened.extents()}
        assert kinds == {"compressed", "data", "unallocated"}
        assert case.both_read_the_same(image) == source.path.read_bytes()
        case.qemu_io(image, *script(seed, 200 * 4096))
        case.both_read_the_same(image)


def test_compressed_clusters_in_an_encrypted_image_are_in_clear(new_case: NewCase) -> None:
    with new_case() as case:
        image = create(case, MIB, PASSPHRASE)
        case.qemu_io(
            image,
            *(f"write -q -c -P {number} {number * 8192} 4096" for number in range(1, 9)),
            "write -q -P 99 100k 30k",
        )
        case.both_read_the_same(image)
        with qcow2crypt.open(image.path, b"another passphrase") as opened:
            assert opened.pread(4096, 8192) == b"\1" * 4096
            assert opened.pread(512, 100 << 10) != b"\x63" * 512


@pytest.mark.parametrize("target", ["raw", "qcow2"])
def test_convert_frees_it(new_case: NewCase, target: str) -> None:
    with new_case() as case:
        image = create(case, SIZE, PASSPHRASE)
        case.qemu_io(image, *script(7))
        words = ["convert", *image.secret("old"), "-O", target, "--image-opts"]
        new = case.folder / "new"
        case.ours(*words, image.options("old"), new)
        theirs = case.guest_by_them(image)
        case.same_guest(case.guest_by_them(Disk(new, target)), theirs, "what we converted", new)


def test_reads_at_any_place(new_case: NewCase) -> None:
    with new_case() as case:
        image = create(case, SIZE, PASSPHRASE)
        case.qemu_io(image, *script(9))
        content = case.guest_by_them(image)
        rng = random.Random(0)
        with qcow2crypt.open(image.path, PASSPHRASE) as opened:
            for _ in range(300):
                at, length = rng.randrange(SIZE), rng.randrange(5000)
                assert opened.pread(length, at) == content[at : at + length]


def test_it_is_not_written(new_case: NewCase, tmp_path: Path) -> None:
    with new_case() as case:
        image = create(case)
        before = image.path.read_bytes()
        with pytest.raises(qcow2crypt.errors.ReadOnlyError, match="version 1"):
            qcow2crypt.open(image.path, mode="r+")
        assert image.path.read_bytes() == before
