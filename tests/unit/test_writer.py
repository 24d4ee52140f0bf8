"""Fresh qcow2 files: what is written can be read, and every cluster of the file is counted once."""

from __future__ import annotations

import io
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory import Memory
from support.refcounts import problems

import qcow2crypt
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.qcow2.fresh.writer import Qcow2Writer
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.units import GuestOffset

KEY = "key"


def build(
    size: int, writes: list[tuple[int, bytes]], options: Qcow2Options
) -> tuple[Memory, Qcow2Writer]:
    target = Memory()
    cipher = SectorCipher.from_passphrase(KEY) if options.encryption else None
    writer = Qcow2Writer(target, size, options, cipher)
    for offset, data in writes:
        writer.write(GuestOffset(offset), data)
    writer.finish()
    return target, writer


def options(**changes: Any) -> Qcow2Options:
    return Qcow2Options(**{"cluster_size": 512, **changes})


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[tuple[int, bytes]], Qcow2Options]:
    """A size, ascending writes of whole sectors, and options."""
    cluster_size = draw(st.sampled_from((512, 1024, 4096, 65536)))
    sectors = draw(st.integers(0, 400))
    seed = draw(st.integers(0, 2**32))
    borders = sorted(draw(st.sets(st.integers(0, sectors), max_size=12)))
    noise = random.Random(seed)
    writes = [
        (first * 512, noise.randbytes((end - first) * 512))
        for first, end in itertools.pairwise(borders)
        if draw(st.booleans())
    ]
    encryption = draw(st.sampled_from((None, "aes")))
    version = draw(st.sampled_from((2, 3)))
    chosen = options(cluster_size=cluster_size, version=version, encryption=encryption)
    return sectors * 512, writes, chosen


@given(disks())
def test_what_is_written_is_read_and_all_is_counted(
    disk: tuple[int, list[tuple[int, bytes]], Qcow2Options],
) -> None:
    size, writes, chosen = disk
    target, _ = build(size, writes, chosen)
    assert problems(bytes(target.data)) == []
    expected = bytearray(size)
    for offset, data in writes:
        expected[offset : offset + len(data)] = data
    with qcow2crypt.open(io.BytesIO(target.data), secret=KEY) as image:
        assert image.size == size
        assert image.readall() == expected


@given(disks())
def test_only_touched_clusters_are_stored(
    disk: tuple[int, list[tuple[int, bytes]], Qcow2Options],
) -> None:
    size, writes, chosen = disk
    target, _ = build(size, writes, chosen)
    cluster = chosen.cluster_size
    touched = {
        n for at, data in writes for n in range(at // cluster, -(-(at + len(data)) // cluster))
    }
    with qcow2crypt.open(io.BytesIO(target.data), secret=KEY) as image:
        stored = {
            n
            for one in image.extents()
            if one.kind is ExtentKind.DATA
            for n in range(
                one.guest_offset // cluster, -(-(one.guest_offset + one.length) // cluster)
            )
        }
        assert stored == touched
        assert {one.kind for one in image.extents()} <= {ExtentKind.DATA, ExtentKind.UNALLOCATED}


def test_the_refcount_table_grows_and_all_is_counted() -> None:
    """17 MiB in clusters of 512 bytes: the first table counts 8 MiB."""
    data = random.Random(1).randbytes(1 << 20)
    writes = [(n << 20, data) for n in range(17)]
    target, _ = build(17 << 20, writes, options())
    assert problems(bytes(target.data)) == []
    assert parse_header(bytes(target.data)).refcount_table_clusters > 1
    with qcow2crypt.open(io.BytesIO(target.data)) as image:
        assert all(image.pread(1 << 20, at) == data for at, _ in writes)


@pytest.mark.parametrize("size", [0, 512, 32768, 32768 + 512, 1 << 22])
def test_empty_disks(size: int) -> None:
    target, writer = build(size, [], options(encryption="aes"))
    assert problems(bytes(target.data)) == []
    header = parse_header(bytes(target.data))
    assert (header.size, writer.size) == (size, size)
    assert len(target.data) == 3 * 512 + 8 * header.l1_size


def test_a_size_is_rounded_up_to_a_sector() -> None:
    target, writer = build(1000, [], options())
    assert writer.size == parse_header(bytes(target.data)).size == 1024


def test_the_header_is_written_last_so_that_a_cut_file_is_no_image() -> None:
    target, _ = build(1 << 20, [(0, bytes(range(256)) * 200)], options(encryption="aes"))
    assert target.order[-1] == 0
    assert target.order.count(0) == 1


def test_the_rest_of_a_cluster_is_encrypted_zeros() -> None:
    """No raw zeros: they would read as noise."""
    chosen = options(cluster_size=4096, encryption="aes")
    target, _ = build(4096 * 3, [(4096 + 1024, b"x" * 512)], chosen)
    with qcow2crypt.open(io.BytesIO(target.data), secret=KEY) as image:
        (extent,) = (one for one in image.extents() if one.kind is ExtentKind.DATA)
        assert image.pread(4096, 4096) == bytes(1024) + b"x" * 512 + bytes(2560)
    assert extent.host_offset is not None
    stored = bytes(target.data[extent.host_offset : extent.host_offset + 4096])
    sectors = {stored[at : at + 512] for at in range(0, 4096, 512)}
    assert len(sectors) == 8
    assert bytes(512) not in sectors


def test_the_last_cluster_is_whole_in_the_file() -> None:
    chosen = options(cluster_size=65536, encryption="aes")
    target, _ = build(512, [(0, b"x" * 512)], chosen)
    assert len(target.data) % 65536 == 0


@pytest.mark.parametrize(
    ("writes", "says"),
    [
        ([(1, b"x" * 512)], "whole sectors in ascending order"),
        ([(0, b"x" * 511)], "whole sectors in ascending order"),
        ([(512, b"x" * 512), (0, b"x" * 512)], "whole sectors in ascending order"),
        ([(0, b"x" * 1024), (512, b"x" * 512)], "whole sectors in ascending order"),
        ([(8192, b"x" * 512)], "beyond the disk of 8192 bytes"),
        ([(0, b"x" * 8704)], "beyond the disk of 8192 bytes"),
    ],
)
def test_writes_that_cannot_be(writes: list[tuple[int, bytes]], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        build(8192, writes, options())


def test_nothing_at_all_may_be_written() -> None:
    target, _ = build(8192, [(0, b""), (8192, b"")], options())
    assert problems(bytes(target.data)) == []


@pytest.mark.parametrize(("encryption", "given_one"), [("aes", False), (None, True)])
def test_a_cipher_goes_with_encryption(encryption: Any, given_one: bool) -> None:
    cipher = SectorCipher.from_passphrase(KEY) if given_one else None
    with pytest.raises(ArgumentError, match=r"exactly when the options ask for encryption"):
        Qcow2Writer(Memory(), 512, options(encryption=encryption), cipher)


def test_the_largest_disks() -> None:
    """The L1 table may have 32 MiB: 128 GiB with the smallest clusters."""
    largest = 2**22 * 64 * 512
    with pytest.raises(ArgumentError, match=rf"the limit is {largest}; use larger clusters"):
        Qcow2Writer(Memory(), largest + 1, options())
    target, _ = build(largest, [(largest - 512, b"x" * 512)], options())
    assert problems(bytes(target.data)) == []
    with qcow2crypt.open(io.BytesIO(target.data)) as image:
        assert image.size == largest
        assert image.pread(512, largest - 512) == b"x" * 512
