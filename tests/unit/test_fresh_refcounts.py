"""The refcount blocks and the refcount table of a new file, from what the allocator knows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.refcounts import RefcountBlocks, refcount_table
from qcow2crypt.image.qcow2.refcountblock import pack_refcounts

SIZE = 512


def stored(allocator: Allocator, index: int, order: int) -> bytes:
    """A block, cluster by cluster: 0 where it is free, else 1 and what is shared."""
    per_block = allocator.refcounts_per_block
    clusters = range(index * per_block, (index + 1) * per_block)
    free = {
        cluster
        for first, end in allocator.free_ranges(clusters.start, clusters.stop)
        for cluster in range(first, end)
    }
    counts = [0 if n in free else 1 + allocator.shared[n] for n in clusters]
    return pack_refcounts(counts, order)


def all_blocks(allocator: Allocator, order: int) -> dict[int, bytes]:
    """The blocks by host offset."""
    return {
        cluster * SIZE: stored(allocator, index, order)
        for index, cluster in enumerate(allocator.blocks)
        if cluster is not None
    }


def given_out(blocks: Sequence[tuple[int, object]], found: dict[int, bytes]) -> None:
    """What a file holds after these writes; the same block is not written twice in one go."""
    assert len({offset for offset, _ in blocks}) == len(blocks)
    found |= {offset: bytes(data) for offset, data in blocks}  # type: ignore[call-overload]


@pytest.mark.parametrize("order", range(7))
def test_the_blocks_of_a_file_in_which_all_kinds_of_use_are_mixed(order: int) -> None:
    """Whole clusters, bytes of compressed ones, holes; some blocks are written early."""
    draw = random.Random(order)
    allocator = Allocator(SIZE, order)
    blocks = RefcountBlocks(allocator, order)
    found: dict[int, bytes] = {}
    while allocator.frontier < 6 * allocator.refcounts_per_block:
        first = allocator.allocate(draw.choice((1, 40, 3 * allocator.refcounts_per_block)))
        for _ in range(draw.choice((0, 0, 1, 5))):
            allocator.allocate_bytes(draw.randint(1, 300))
        if draw.random() < 0.1:
            allocator.free(first, 1)
        early: dict[int, bytes] = {}
        given_out(blocks.take_full(), early)
        assert early.items() <= all_blocks(allocator, order).items()
        found |= early
    given_out(list(blocks.rest()), found)
    assert found == all_blocks(allocator, order)


def test_a_range_may_have_no_block() -> None:
    """And one behind it may have one before anything is there."""
    allocator = Allocator(SIZE, 6)
    allocator.blocks += [None, allocator.allocate(1)]
    blocks = RefcountBlocks(allocator, 6)
    assert blocks.take_full() == []
    found: dict[int, bytes] = {}
    given_out(list(blocks.rest()), found)
    assert found == all_blocks(allocator, 6)
    assert len(found) == 2


def test_a_block_that_is_not_full_any_more_is_written_again() -> None:
    allocator = Allocator(512)
    first = allocator.allocate(600)
    blocks = RefcountBlocks(allocator, 4)
    full = dict(blocks.take_full())
    assert blocks.take_full() == []
    assert len(full) == allocator.frontier // 256
    assert not full.keys() & dict(blocks.rest()).keys()
    allocator.free(first + 5, 2)
    again = dict(blocks.rest())
    changed = full.keys() & again.keys()
    assert len(changed) == 1
    (offset,) = changed
    assert bytes(again[offset]).count(1) == 254
    assert bytes(full[offset]).count(1) == 256


def test_blocks_come_in_bounded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow2crypt.image.qcow2.fresh.refcounts._AT_ONCE", 3)
    allocator = Allocator(512)
    for _ in range(10):
        allocator.allocate(256)
    blocks = RefcountBlocks(allocator, 4)
    assert [len(blocks.take_full()) for _ in range(4)] == [3, 3, 3, allocator.frontier // 256 - 9]


def test_a_table_has_the_offsets_of_the_blocks_and_zeros() -> None:
    table = refcount_table([2, None, 1 << 40], SIZE, 2)
    assert len(table) == 2 * SIZE
    entries = [int.from_bytes(table[at : at + 8], "big") for at in range(0, len(table), 8)]
    assert entries == [2 * SIZE, 0, SIZE << 40] + [0] * 125
