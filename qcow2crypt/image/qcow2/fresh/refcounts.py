"""The refcount structures of a new file as bytes, from what the allocator knows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.l2 import big_endian
from qcow2crypt.image.qcow2.refcountblock import pack_refcounts
from qcow2crypt.units import ReadBuffer

_ONE_BYTE = 3


def refcount_blocks(allocator: Allocator, order: int) -> Iterator[tuple[int, ReadBuffer]]:
    """Each block as (host offset, bytes): what is in use counts one, but for what is shared."""
    per_block = allocator.refcounts_per_block
    full = _ones(bytearray(b"\1") * per_block, order)
    for index, cluster in enumerate(allocator.blocks):
        if cluster is None:
            continue
        first = index * per_block
        free = allocator.free_ranges(first, first + per_block)
        shared = allocator.shared.slice(first, max(0, min(per_block, allocator.frontier - first)))
        content = full
        if free or any(shared):
            ones = bytearray(b"\1" * per_block)
            for start, stop in free:
                ones[start - first : stop - first] = bytes(stop - start)
            if not any(shared):
                yield cluster * allocator.cluster_size, _ones(ones, order)
                continue
            counts = _counts(ones, order)
            for number, more in enumerate(shared):
                if more:
                    counts[number] += more
            content = pack_refcounts(counts, order)
        yield cluster * allocator.cluster_size, content


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
