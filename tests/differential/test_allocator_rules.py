"""The allocator's rules in cases that whole files reach seldom.

What they should be was seen on files of qemu-img: see test_convert_sources.
"""

from __future__ import annotations

from qcow2crypt.image.qcow2.fresh.allocator import Allocator

CLUSTER_SIZE = 512
PER_BLOCK = CLUSTER_SIZE // 2  # refcounts of two bytes


def filled_up_to(end: int) -> Allocator:
    """An allocator in which every cluster before ``end`` is taken."""
    allocator = Allocator(CLUSTER_SIZE)
    while allocator.frontier < end:
        allocator.allocate(1)
    return allocator


def test_a_block_stands_behind_what_can_be_counted_already() -> None:
    allocator = filled_up_to(PER_BLOCK - 2)
    assert allocator.allocate_at(PER_BLOCK - 2, 5) == 2
    assert allocator.blocks == [2, PER_BLOCK]
    assert allocator.frontier == PER_BLOCK + 1


def test_a_block_in_a_hole_leaves_the_clusters_in_one_piece() -> None:
    allocator = filled_up_to(PER_BLOCK - 2)
    allocator.free(100, 1)
    assert allocator.allocate_at(PER_BLOCK - 2, 5) == 5
    assert allocator.blocks == [2, 100]
    assert allocator.frontier == PER_BLOCK + 3
    assert allocator.holes == []


def test_what_is_freed_at_the_end_is_no_hole() -> None:
    allocator = filled_up_to(50)
    allocator.free(40, 5)
    allocator.free(45, 5)
    assert allocator.holes == []
    assert allocator.frontier == 40
