"""Host clusters given out: never one twice, all of them counted.

Whether they lie where QEMU would put them is for the differential tests.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.allocator import Allocator, ClusterRange


def test_a_fresh_image_has_three_clusters_in_use() -> None:
    allocator = Allocator(512)
    assert allocator.table == ClusterRange(1, 1)
    assert allocator.blocks == [2]
    assert allocator.frontier == 3
    assert allocator.holes == []
    assert not allocator.is_free(2, 1)
    assert allocator.is_free(3, 1000)


def test_clusters_follow_each_other() -> None:
    allocator = Allocator(65536)
    assert [allocator.allocate(n) for n in (1, 5, 32)] == [3, 4, 9]
    assert allocator.frontier == 41


def test_clusters_that_are_given_back_are_found_again() -> None:
    allocator = Allocator(65536)
    first = allocator.allocate(10)
    allocator.free(first + 2, 3)
    assert allocator.is_free(first + 2, 3)
    assert not allocator.is_free(first + 2, 4)
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
    owned = [(0, 1), (allocator.table.first, allocator.table.count), *taken]
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
    assert len(allocator.blocks) <= allocator.table.count * allocator.cluster_size // 8


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
    assert allocator.table.count > 1
    assert allocator.retired[0][0] == ClusterRange(1, 1)


def test_one_allocation_may_be_larger_than_many_refcount_blocks() -> None:
    """The L1 table of a disk of 128 GiB with the smallest clusters."""
    allocator = Allocator(512)
    count = 65536
    taken = [(allocator.allocate(count), count)]
    counted_once(allocator, taken)
