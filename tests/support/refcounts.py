"""Is the metadata of a fresh qcow2 file right?  A small ``qemu-img check`` of our own.

Written from the qcow2 document, and knows nothing of this package: it tells for every cluster
of a file how often it is used, and what its refcount says.  Only for images that one program
wrote in one go: no snapshots, no compressed clusters, refcounts of 16 bits.
"""

from __future__ import annotations

import struct
from collections import Counter

OFFSET = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63


def problems(data: bytes) -> list[str]:
    """Everything that is wrong with an image file, in words; empty if nothing is."""
    used = Counter({0: 1})  # the header
    found = _tables(data, used) + _clusters(data, used)
    counted = _refcounts(data, used)
    found += [
        f"cluster {cluster} is used {used[cluster]} times, counted {counted.get(cluster, 0)} times"
        for cluster in sorted(used.keys() | counted.keys())
        if used[cluster] != counted.get(cluster, 0) or used[cluster] > 1
    ]
    return found


def _tables(data: bytes, used: Counter[int]) -> list[str]:
    """Count the clusters of the refcount table and the L1 table."""
    l1_size, l1 = struct.unpack_from(">IQ", data, 36)
    table, clusters = struct.unpack_from(">QI", data, 48)
    found = _use(data, used, table, clusters * _size(data), "refcount table")
    return found + _use(data, used, l1, l1_size * 8, "L1 table")


def _clusters(data: bytes, used: Counter[int]) -> list[str]:
    """Count the clusters of L2 tables and guest data."""
    size = _size(data)
    l1_size, l1 = struct.unpack_from(">IQ", data, 36)
    found = []
    for index, entry in enumerate(words(data, l1, l1_size)):
        if not entry:
            continue
        found += _use_entry(data, used, entry, f"L2 table {index}")
        for inner, l2_entry in enumerate(words(data, entry & OFFSET, size // 8)):
            if l2_entry & OFFSET:
                found += _use_entry(data, used, l2_entry, f"data cluster {index}/{inner}")
    return found


def _refcounts(data: bytes, used: Counter[int]) -> dict[int, int]:
    """The refcounts that are not 0; counts the clusters of the refcount blocks, too."""
    size = _size(data)
    table, clusters = struct.unpack_from(">QI", data, 48)
    per_block = size // 2
    counted: dict[int, int] = {}
    for index, block in enumerate(words(data, table, clusters * size // 8)):
        if not block:
            continue
        _use(data, used, block, size, f"refcount block {index}")
        counts = struct.unpack(f">{per_block}H", data[block : block + size].ljust(size, b"\0"))
        counted |= {index * per_block + n: count for n, count in enumerate(counts) if count}
    return counted


def _use_entry(data: bytes, used: Counter[int], entry: int, what: str) -> list[str]:
    found = _use(data, used, entry & OFFSET, _size(data), what)
    return found if entry & COPIED else [*found, f"{what} lacks the copied bit"]


def _use(data: bytes, used: Counter[int], offset: int, length: int, what: str) -> list[str]:
    size = _size(data)
    used.update(range(offset // size, -(-(offset + length) // size)))
    return [f"{what} at {offset:#x} is not aligned"] if offset % size else []


def _size(data: bytes) -> int:
    return 1 << int.from_bytes(data[20:24], "big")


def words(data: bytes, offset: int, count: int) -> tuple[int, ...]:
    """A table of 64-bit integers; what the file lacks of it is zero."""
    return struct.unpack(f">{count}Q", data[offset : offset + 8 * count].ljust(8 * count, b"\0"))
