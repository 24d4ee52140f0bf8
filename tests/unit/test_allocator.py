"""Host clusters given out: never one twice, all of them counted.

Whether they lie where QEMU would put them is for the differential tests.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.fresh.allocator import Allocator, ClusterRange


def test_a_fresh_image_has_three_clusters_in_use() -> None:
    allocator = Allocator(512)
    assert allocator.table == ClusterRange(1, 1)
    assert allocator.blocks == [2]
    assert allocator.frontier == 3
    assert allocator.holes == []


def test_clusters_follow_each_other() -> None:
    allocator = Allocator(65536)
    assert [allocator.allocate(n) for n in (1, 5, 32)] == [3, 4, 9]
    assert allocator.frontier == 41


def test_clusters_that_are_given_back_are_found_again() -> None:
    allocator = Allocator(65536)
    first = allocator.allocate(10)
    allocator.free(first + 2, 3)
    assert allocator.free_ranges(0, allocator.frontier) == [(first + 2, first + 5)]
    assert allocator.allocate(4) == first + 10
    allocator.free(first, 1)
    assert allocator.allocate(3) == first + 2
    allocator.restart()
    assert allocator.allocate(1) == first


def test_free_neighbours_are_one_range() -> None:
    allocator = Allocator(65536)
    first = allocator.allocate(10)
    allocator.free(first + 4, 2)
    allocator.free(first, 2)
    allocator.free(first + 2, 2)
    assert allocator.holes == [(first, first + 6)]
    assert allocator.allocate(6) == first


def test_an_allocation_at_a_place_takes_what_is_free_there() -> None:
    allocator = Allocator(65536)
    first = allocator.allocate(4)
    assert allocator.allocate_at(first, 2) == 0
    assert allocator.allocate_at(first + 4, 3) == 3
    allocator.free(first + 1, 2)
    assert allocator.allocate_at(first + 1, 5) == 2


def test_the_free_ranges_of_a_part_of_the_file() -> None:
    allocator = Allocator(65536)
    first = allocator.allocate(10)
    allocator.free(first + 2, 3)
    end = first + 10
    assert allocator.free_ranges(0, end + 2) == [(first + 2, first + 5), (end, end + 2)]
    assert allocator.free_ranges(first + 3, first + 4) == [(first + 3, first + 4)]
    assert allocator.free_ranges(0, 3) == []


def counted_once(allocator: Allocator, taken: list[tuple[int, int]]) -> None:
    """Each cluster belongs to one owner, and the free ranges are all that is left."""
    owned = [(0, 1), (allocator.table.first, allocator.table.clusters), *taken]
    owned += [(block, 1) for block in allocator.blocks if block is not None]
    clusters = [number for first, count in owned for number in range(first, first + count)]
    assert len(clusters) == len(set(clusters)), "a cluster has two owners"
    free = {
        n for first, end in allocator.free_ranges(0, allocator.frontier) for n in range(first, end)
    }
    assert free == set(range(allocator.frontier)) - set(clusters)
    per_block = allocator.refcounts_per_block
    for number in {cluster // per_block for cluster in clusters}:
        assert allocator.blocks[number] is not None, "a cluster in use has no refcount"
    assert len(allocator.blocks) <= allocator.table.clusters * allocator.cluster_size // 8


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=40), st.data())
def test_no_cluster_has_two_owners(steps: list[tuple[bool, int]], data: st.DataObject) -> None:
    allocator = Allocator(512)
    taken: list[tuple[int, int]] = []
    for at_the_end, count in steps:
        if at_the_end and taken:
            first = taken[-1][0] + taken[-1][1]
            got = allocator.allocate_at(first, count)
            if got:
                taken.append((first, got))
        else:
            taken.append((allocator.allocate(count), count))
        if len(taken) > 3 and data.draw(st.booleans()):
            allocator.free(*taken.pop(data.draw(st.integers(0, len(taken) - 1))))
    counted_once(allocator, taken)


@pytest.mark.parametrize("cluster_size", [512, 1024])
def test_the_refcount_table_grows(cluster_size: int) -> None:
    """A table of one cluster of 512 bytes counts 8 MiB of file."""
    allocator = Allocator(cluster_size)
    taken: list[tuple[int, int]] = []
    clusters = allocator.refcounts_per_block * cluster_size // 8  # all that the table can count
    while sum(count for _, count in taken) < 2 * clusters:
        taken.append((allocator.allocate(32), 32))
    counted_once(allocator, taken)
    assert allocator.table.clusters > 1
    assert allocator.retired[0][0] == ClusterRange(1, 1)


def test_one_allocation_may_be_larger_than_many_refcount_blocks() -> None:
    """The L1 table of a disk of 128 GiB with the smallest clusters."""
    allocator = Allocator(512)
    count = 65536
    taken = [(allocator.allocate(count), count)]
    counted_once(allocator, taken)


@pytest.mark.parametrize("order", range(7))
def test_refcount_widths_decide_how_much_a_block_counts(order: int) -> None:
    allocator = Allocator(512, order)
    assert allocator.refcounts_per_block == 4096 >> order
    taken = [(allocator.allocate(700), 700)]
    counted_once(allocator, taken)


def test_bytes_are_packed_into_clusters() -> None:
    allocator = Allocator(512)
    assert [allocator.allocate_bytes(n) for n in (200, 300, 100, 400)] == [1536, 1736, 2036, 2136]
    assert allocator.frontier == 5
    assert [allocator.shared[n] for n in (3, 4)] == [2, 1]


def test_bytes_begin_anew_where_the_next_cluster_is_taken() -> None:
    allocator = Allocator(512)
    assert allocator.allocate_bytes(300) == 3 * 512
    allocator.allocate(1)
    assert allocator.allocate_bytes(300) == 5 * 512
    assert allocator.shared[3] == 0
    assert allocator.allocate_bytes(212) == 5 * 512 + 300
    assert allocator.allocate_bytes(1) == 6 * 512, "a cluster that is just full is left"


@pytest.mark.parametrize(("order", "most"), [(0, 1), (1, 3), (2, 15)])
def test_a_cluster_is_not_shared_more_often_than_can_be_counted(order: int, most: int) -> None:
    allocator = Allocator(4096, order)
    offsets = [allocator.allocate_bytes(10) for _ in range(40)]
    for cluster in range(3, allocator.frontier):
        users = sum(1 for offset in offsets if offset // 4096 == cluster)
        assert users == allocator.shared[cluster] + 1 <= most


@given(st.lists(st.one_of(st.integers(1, 511), st.none()), max_size=600))
def test_all_bytes_are_counted(steps: list[int | None]) -> None:
    """None takes a whole cluster between them."""
    allocator = Allocator(512, 5)
    taken: list[tuple[int, int]] = []
    uses: dict[int, int] = {}
    ends = [0]
    for length in steps:
        if length is None:
            taken.append((allocator.allocate(1), 1))
            continue
        offset = allocator.allocate_bytes(length)
        assert offset >= max(ends)
        ends.append(offset + length)
        for cluster in range(offset // 512, (offset + length - 1) // 512 + 1):
            uses[cluster] = uses.get(cluster, 0) + 1
    assert all(allocator.shared[cluster] == count - 1 for cluster, count in uses.items())
    counted_once(allocator, [*taken, *((cluster, 1) for cluster in uses)])


@pytest.mark.parametrize("count", [0, 1, 200, 5000, 50_000])
def test_an_area_is_one_piece_with_all_its_refcounts(count: int) -> None:
    allocator = Allocator(512)
    l1 = allocator.allocate(7)
    start = allocator.allocate_area(count, count // 64 + 2)
    assert allocator.frontier == start + count
    taken = [(l1, 7), (start, count)]
    blocks = len(allocator.blocks)
    taken += [(allocator.allocate(1), 1) for _ in range(count // 64 + 1)]
    assert len(allocator.blocks) == blocks, "there was room for what follows"
    counted_once(allocator, taken)
    assert taken[2][0] == 1, "the place of the old refcount table is used first"
