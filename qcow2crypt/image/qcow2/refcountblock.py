"""Refcount blocks: from bytes to counts and back, for every width.  Pure layout, no I/O.

Source: the qcow2 document, "Refcounts".  A block fills one cluster.  Widths of 8 bits and more
are big-endian integers; in narrower ones the lowest bits of a byte belong to the first cluster.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

REFCOUNT_TABLE_OFFSET_MASK = 0xFFFF_FFFF_FFFF_FE00
"""Bits 9 to 63 of an entry of the refcount table: the host offset of a block; 0 means none."""

_WIDE = {4: "H", 5: "I", 6: "Q"}
_SWAP = sys.byteorder == "little"


def refcounts_per_block(cluster_size: int, order: int) -> int:
    """How many clusters one refcount block counts."""
    return cluster_size * 8 >> order


def refcount_max(order: int) -> int:
    """The largest refcount of this width."""
    return (1 << (1 << order)) - 1


def unpack_refcounts(data: bytes, order: int) -> Sequence[int]:
    """The refcounts in a whole or partial block; ``order`` is the header's refcount_order."""
    if order == 3:
        return data
    if order in _WIDE:
        wide: array[int] = array(_WIDE[order], data)
        if _SWAP:
            wide.byteswap()
        return wide
    bits = 1 << order
    per_byte = 8 >> order
    counts = bytearray(len(data) * per_byte)
    for place in range(per_byte):
        shift = place * bits
        counts[place::per_byte] = data.translate(
            bytes(byte >> shift & (1 << bits) - 1 for byte in range(256))
        )
    return bytes(counts)


def small_refcounts(data: bytes, order: int) -> Sequence[int]:
    """The same as ``unpack_refcounts``, and bytes where every count is below 256."""
    width = (1 << order) // 8
    if not width:
        return unpack_refcounts(data, order)
    low = data[width - 1 :: width]
    zeros = bytes(len(low))
    if all(data[place::width] == zeros for place in range(width - 1)):
        return low
    return unpack_refcounts(data, order)


def pack_refcounts(counts: Sequence[int], order: int) -> bytes:
    """The twin of ``unpack_refcounts``.  Every count fits; their bits fill whole bytes."""
    if order == 3:
        return bytes(counts)
    if order in _WIDE and isinstance(counts, bytes):
        width = (1 << order) // 8
        data = bytearray(len(counts) * width)
        data[width - 1 :: width] = counts
        return bytes(data)
    if order in _WIDE:
        wide: array[int] = array(_WIDE[order], list(counts))
        if _SWAP:
            wide.byteswap()
        return wide.tobytes()
    bits = 1 << order
    per_byte = 8 >> order
    narrow = bytes(counts)
    packed = 0
    for place in range(per_byte):
        # No part has bits where another has some, so the parts can be joined as large numbers.
        packed |= int.from_bytes(narrow[place::per_byte], "little") << place * bits
    return packed.to_bytes(len(narrow) // per_byte, "little")
