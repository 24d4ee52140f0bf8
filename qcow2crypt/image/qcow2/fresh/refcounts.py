"""The refcount structures of a new file as bytes, from what the allocator knows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.l2 import big_endian
from qcow2crypt.image.qcow2.refcountblock import pack_refcounts
from qcow2crypt.units import ReadBuffer

_ONE_BYTE = 3
_AT_ONCE = 4096


class RefcountBlocks:
    """The refcount blocks of a new file, each as (host offset, bytes) when it is to be written."""

    def __init__(self, allocator: Allocator, order: int) -> None:
        self._allocator = allocator
        self._order = order
        self._full = _ones(bytearray(b"\1" * allocator.refcounts_per_block), order)
        self._looked_at = 0
        self._given: set[int] = set()

    def take_full(self) -> list[tuple[int, ReadBuffer]]:
        """Some blocks where every cluster counts one now, once each.

        They lie among the data, so they are best written with it.
        """
        allocator, found = self._allocator, []
        end = allocator.frontier // allocator.refcounts_per_block
        end = min(end, self._looked_at + _AT_ONCE)
        for index in range(self._looked_at, end):
            cluster = allocator.blocks[index]
            if cluster is not None and not self._differs(index):
                found.append((cluster * allocator.cluster_size, self._full))
                self._given.add(index)
        self._looked_at = max(end, self._looked_at)
        return found

    def rest(self) -> Iterator[tuple[int, ReadBuffer]]:
        """The blocks that were not taken, and those that are not what they were any more."""
        allocator = self._allocator
        for index, cluster in enumerate(allocator.blocks):
            if cluster is None:
                continue
            if self._differs(index):
                yield cluster * allocator.cluster_size, self._content(index)
            elif index not in self._given:
                yield cluster * allocator.cluster_size, self._full

    def _differs(self, index: int) -> bool:
        """Whether not every cluster of a block counts one."""
        allocator = self._allocator
        first = index * allocator.refcounts_per_block
        if allocator.free_ranges(first, first + allocator.refcounts_per_block):
            return True
        if not allocator.shared.chunks:
            return False
        return any(allocator.shared.slice(first, allocator.refcounts_per_block))

    def _content(self, index: int) -> ReadBuffer:
        """A block: what is in use counts one, but for what is shared."""
        allocator, per_block = self._allocator, self._allocator.refcounts_per_block
        first = index * per_block
        ones = bytearray(b"\1" * per_block)
        for start, stop in allocator.free_ranges(first, first + per_block):
            ones[start - first : stop - first] = bytes(stop - start)
        shared = allocator.shared.slice(first, max(0, min(per_block, allocator.frontier - first)))
        if not any(shared):
            return _ones(ones, self._order)
        counts = _counts(ones, self._order)
        for number, more in enumerate(shared):
            if more:
                counts[number] += more
        return pack_refcounts(counts, self._order)


def refcount_table(blocks: Sequence[int | None], cluster_size: int, clusters: int) -> bytes:
    """A refcount table of ``clusters`` clusters."""
    table = array("Q", [0 if block is None else block * cluster_size for block in blocks])
    return big_endian(table).ljust(clusters * cluster_size, b"\0")


def _ones(ones: bytearray, order: int) -> ReadBuffer:
    """A block of counts that are all 0 or 1."""
    if order < _ONE_BYTE:
        return pack_refcounts(ones, order)
    width = 1 << order - _ONE_BYTE
    packed = bytearray(len(ones) * width)
    packed[width - 1 :: width] = ones  # big-endian: the last byte of each
    return packed


def _counts(ones: bytes | bytearray, order: int) -> bytearray | array[int]:
    """A list of counts that ``pack_refcounts`` takes, with room for large ones."""
    return bytearray(ones) if order <= _ONE_BYTE else array("Q", iter(ones))
