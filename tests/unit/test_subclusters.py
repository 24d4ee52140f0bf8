"""Extended L2 entries: the two bits of 32 subclusters, and the extents that they make."""

from __future__ import annotations

import io
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import MappingError
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.image.extents import extents_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.subclusters import is_valid, subcluster_run
from qcow2crypt.testing.damage.rows_subclusters import (
    ALL,
    BODY,
    CONTENT,
    ENTRIES,
    FIRST,
    SIZE,
    SUB,
    extended,
)
from qcow2crypt.testing.damage.tiny import COPIED, put_fields

DATA, ZEROS, NONE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED


def kind_of(bitmap: int, index: int) -> ExtentKind:
    if bitmap >> index & 1:
        return DATA
    return ZEROS if bitmap >> (32 + index) & 1 else NONE


bitmaps = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, ALL),
    st.integers(0, ALL).map(lambda bits: bits << 32),
    st.sampled_from([0, ALL, ALL << 32, 1, 1 << 31, 1 << 63, 1 << 32]),
)


@given(bitmaps, st.integers(0, 31))
def test_a_run_is_what_a_loop_finds(bitmap: int, index: int) -> None:
    kind, count = subcluster_run(bitmap, index)
    assert kind is kind_of(bitmap, index)
    assert all(kind_of(bitmap, index + n) is kind for n in range(count))
    assert index + count == 32 or kind_of(bitmap, index + count) is not kind


@given(bitmaps, st.booleans())
def test_what_is_valid(bitmap: int, has_host: bool) -> None:
    both = any(bitmap >> n & bitmap >> (32 + n) & 1 for n in range(32))
    stored = any(bitmap >> n & 1 for n in range(32))
    assert is_valid(bitmap, has_host_cluster=has_host) is not (both or (stored and not has_host))


def extents(data: bytes, start: int = 0, end: int | None = None) -> list[Extent]:
    header = parse_header(data)
    stop = header.guest_size if end is None else end
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), header)
    return list(extents_of(cluster_map, start, stop))


def plain(found: list[Extent]) -> list[tuple[ExtentKind, int, int, int | None]]:
    return [(one.kind, one.guest_offset, one.length, one.host_offset) for one in found]


def test_the_extents_of_every_kind() -> None:
    second = ENTRIES[1][0] & ~COPIED
    assert plain(extents(BODY.data)) == [
        (DATA, 0, SIZE + 4 * SUB, FIRST),
        (ZEROS, SIZE + 4 * SUB, 4 * SUB, second + 4 * SUB),
        (NONE, SIZE + 8 * SUB, 24 * SUB, second + 8 * SUB),
        (NONE, 2 * SIZE, SIZE, None),
        (ZEROS, 3 * SIZE, SIZE, None),
    ]


@given(st.data())
def test_any_bitmaps_read_as_a_loop_reads_them(data: st.DataObject) -> None:
    """Clusters in file order and out of it, with room and without, over any range."""
    body = random.Random(1).randbytes(8 * SIZE)
    entries = []
    for _ in range(4):
        where = data.draw(st.sampled_from([0, 0, 5, 6, 7, 8, 9]))
        allocated = data.draw(st.sampled_from([0, ALL, ALL]) | st.integers(0, ALL)) if where else 0
        zero = data.draw(st.sampled_from([0, ALL]) | st.integers(0, ALL)) & ~allocated
        entries.append((where * SIZE, allocated | zero << 32))
    file = extended(*entries)[: 5 * SIZE] + body
    disk = bytearray(4 * SIZE)
    expected: dict[int, tuple[ExtentKind, int | None]] = {}
    for cluster, (host, bitmap) in enumerate(entries):
        for n in range(32):
            at = cluster * SIZE + n * SUB
            expected[at] = (kind_of(bitmap, n), host + n * SUB if host else None)
            if bitmap >> n & 1:
                disk[at : at + SUB] = file[host + n * SUB :][:SUB]
    start = data.draw(st.integers(0, 4 * SIZE))
    end = data.draw(st.integers(start, 4 * SIZE))
    with qcow2crypt.open(io.BytesIO(file)) as image:
        assert image.pread(end - start, start) == disk[start:end]
    position = start
    for one in extents(file, start, end):
        assert one.guest_offset == position
        assert one.length > 0
        for at in range(position - position % SUB, position + one.length, SUB):
            kind, place = expected[at]
            assert one.kind is kind
            moved = None if place is None else place + position - at
            assert one.host_offset == moved
        position += one.length
    assert position == end


def test_a_contradiction_is_told_with_its_place() -> None:
    data = extended(ENTRIES[0], (FIRST, ALL | 1 << 40))
    with qcow2crypt.open(io.BytesIO(data)) as image:
        assert image.pread(SIZE, 0) == CONTENT[:SIZE]
        with pytest.raises(MappingError) as caught:
            image.pread(1, 2 * SIZE - 1)
    error = caught.value
    assert (error.offset, error.guest_offset) == (BODY.l2 + 16, SIZE)
    assert error.found == f"{FIRST:#018x} {ALL | 1 << 40:#018x}"


def test_a_whole_table_of_nothing_is_one_extent() -> None:
    file = put_fields(extended(), {"size": 1 << 24})
    assert struct.unpack_from(">Q", file, BODY.l2) == (0,)
    assert plain(extents(file)) == [(NONE, 0, 1 << 24, None)]
