"""Pieces of a disk and batches of them: many at once gives what one after the other gives."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Stretch
from qcow2crypt.tasks import batches
from qcow2crypt.tasks.batches import PIECE, cut, gathered, telling_bounds
from qcow2crypt.testing.damage.tiny import put_fields, tiny
from qcow2crypt.units import GuestOffset
from qcow2crypt.zeros import data_runs

MIB = 1 << 20


def image_of(cluster_size: int, size: int) -> Image:
    """Only its size and its clusters are looked at: the tables behind the L1 table are missing."""
    bits = cluster_size.bit_length() - 1
    head = tiny(cluster_bits=bits).data[: 3 * cluster_size]
    fields = {"size": size, "l1_size": -(-size // (cluster_size * cluster_size // 8))}
    fields["l1_table_offset"] = 3 * cluster_size
    return qcow2crypt.open(io.BytesIO(put_fields(head, fields)))


def one_by_one(bounds: list[int], reach: int, size: int, cluster: int) -> Iterator[tuple[int, int]]:
    """The pieces by the rule as it is told: (guest offset, length)."""
    whole = size - size % cluster
    for start, end in itertools.pairwise(bounds):
        position = start
        while position < end:
            stop = min(end, position - position % reach + reach)
            if position < whole < stop:
                stop = whole
            for offset in range(position, stop, PIECE):
                yield offset, min(PIECE, stop - offset)
            position = stop


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Size of a cluster, size of a disk, bounds of extents in it."""
    cluster = draw(st.sampled_from((512, 4096, 65536, 2 * MIB)))
    sectors = draw(st.integers(1, draw(st.sampled_from((300, 10_000, 200_000)))))
    inner = draw(st.sets(st.integers(0, sectors), max_size=30))
    bounds = sorted({0, sectors, *inner} if draw(st.booleans()) else {sectors, 0})
    first = draw(st.integers(0, len(bounds) - 2))
    return cluster, sectors * 512, [number * 512 for number in bounds[first:]]


@given(disks())
def test_pieces_are_cut_where_requests_begin(disk: tuple[int, int, list[int]]) -> None:
    cluster, size, bounds = disk
    with image_of(cluster, size) as image:
        found = [
            (start, end - start)
            for piece in cut(image.request_ends(), bounds)
            for start, end in itertools.pairwise(piece)
        ]
    assert found == list(one_by_one(bounds, cluster * cluster // 8, size, cluster))


@given(disks())
def test_raw_disks_are_cut_at_extents_alone(disk: tuple[int, int, list[int]]) -> None:
    _, size, bounds = disk
    with qcow2crypt.open(io.BytesIO(bytes(512)), format="raw") as image:
        found = [
            (start, end - start)
            for piece in cut(image.request_ends(), bounds)
            for start, end in itertools.pairwise(piece)
        ]
    assert found == list(one_by_one(bounds, 1 << 63, size, 512))


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(1, PIECE // 512), min_size=1)), min_size=1
    )
)
def test_batches_have_all_pieces_in_order(given_pieces: list[tuple[bool, list[int]]]) -> None:
    position = 0
    stretches, wanted = [], []
    for zero, sectors in given_pieces:
        bounds = [position]
        for count in sectors:
            if not zero:
                wanted.append((position, count * 512))
            position += count * 512
            bounds.append(position)
        stretches.append(Stretch(zero, bounds))
    found = list(gathered(iter(stretches)))
    assert [(offset, length) for one in found for offset, _, length in one.pieces] == wanted
    ends = [one.end for one in found]
    assert ends == sorted(ends)
    for one in found:
        at = 0
        for offset, place, length in one.pieces:
            assert place == at
            at += length
            assert offset + length <= one.end
        assert at == one.length <= PIECE
        assert len(one.pieces) <= batches._PIECES_MAX
        inside = [
            range_offset + (place - range_at)
            for offset, place, length in one.pieces
            for range_offset, range_at, range_length in one.ranges
            if range_at <= place < range_at + range_length
        ]
        assert inside == [offset for offset, _, _ in one.pieces]
        for (offset, _, length), (behind, _, _) in zip(one.ranges, one.ranges[1:], strict=False):
            assert offset + length != behind
        assert sum(length for _, _, length in one.ranges[:-1]) <= batches._APART


def test_the_last_end_is_that_of_the_disk() -> None:
    found = list(gathered([Stretch(False, [0, 512]), Stretch(True, [512, 10 * MIB])]))
    assert [one.end for one in found][-1:] == [10 * MIB]
    assert list(gathered([])) == []
    only_zeros = list(gathered([Stretch(True, [0, MIB])]))
    assert [(one.pieces, one.end) for one in only_zeros] == [([], MIB)]


@pytest.mark.parametrize("cluster", [512, 2 * MIB])
def test_a_huge_extent_is_cut_little_by_little(cluster: int) -> None:
    """A petabyte in one extent: the first pieces come at once."""
    with image_of(cluster, MIB) as image:
        first = next(cut(image.request_ends(), [0, 1 << 50]))
    assert first[0] == 0
    assert len(first) < 1000


def kept(disk: bytes, bounds: list[int], sparse_size: int) -> list[bool]:
    """Of each sector, whether it is stored where the disk is looked at in these pieces."""
    stored = [False] * (len(disk) // 512)
    for start, end in itertools.pairwise(bounds):
        for first, last in data_runs(disk[start:end], GuestOffset(start), sparse_size):
            for number in range((start + first) // 512, (start + last) // 512):
                stored[number] = True
    return stored


@given(
    pattern=st.lists(st.tuples(st.booleans(), st.integers(1, 20)), min_size=1, max_size=20),
    marks=st.lists(st.tuples(st.integers(0, 200), st.sampled_from((1, 2, 8, 16))), max_size=12),
    first=st.integers(0, 30),
    sparse_size=st.sampled_from((0, 512, 1024, 1536, 4096, 8192, 12288)),
)
def test_bounds_that_are_left_out_tell_nothing(
    pattern: list[tuple[bool, int]],
    marks: list[tuple[int, int]],
    first: int,
    sparse_size: int,
) -> None:
    sectors = [data for data, count in pattern for _ in range(count)]
    disk = b"".join((b"\0" * 511 + b"x") if data else bytes(512) for data in sectors)
    first = min(first, len(sectors) - 1)
    inner = {number * unit for number, unit in marks if first < number * unit < len(sectors)}
    bounds = [512 * number for number in (first, *sorted(inner), len(sectors))]
    fewer = telling_bounds(bounds, sparse_size)
    assert kept(disk, fewer, sparse_size) == kept(disk, bounds, sparse_size)
    assert set(fewer) <= set(bounds)


def test_which_bounds_are_left_out() -> None:
    bounds = [512, 4096, 4608, 8192, 65536, 65536 + 512]
    assert telling_bounds(bounds, 4096) == [512, 4608, 65536 + 512]
    assert telling_bounds(bounds, 0) == [512, 65536 + 512]
    assert telling_bounds(bounds, 512) == [512, 65536 + 512]
    assert telling_bounds(bounds, 8192 + 4096) == bounds
