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
    cluster_bits = int.from_bytes(data[20:24], "big")
    size = 1 << cluster_bits
    l1_size, l1 = struct.unpack_from(">IQ", data, 36)
    table, table_clusters = struct.unpack_from(">QI", data, 48)
    found = []
    used: Counter[int] = Counter({0: 1})

    def use(offset: int, length: int, what: str) -> None:
        if offset % size:
            found.append(f"{what} at {offset:#x} is not aligned")
        for cluster in range(offset // size, -(-(offset + length) // size)):
            used[cluster] += 1

    use(table, table_clusters * size, "refcount table")
    use(l1, l1_size * 8, "L1 table")
    for index, entry in enumerate(words(data, l1, l1_size)):
        if not entry:
            continue
        if not entry & COPIED:
            found.append(f"L1 entry {index} lacks the copied bit")
        use(entry & OFFSET, size, f"L2 table {index}")
        for inner, l2_entry in enumerate(words(data, entry & OFFSET, size // 8)):
            if l2_entry & OFFSET:
                use(l2_entry & OFFSET, size, f"data cluster {index}/{inner}")
                if not l2_entry & COPIED:
                    found.append(f"L2 entry {index}/{inner} lacks the copied bit")
    counted: dict[int, int] = {}
    per_block = size // 2
    for index, block in enumerate(words(data, table, table_clusters * size // 8)):
        if not block:
            continue
        use(block, size, f"refcount block {index}")
        counts = struct.unpack(f">{per_block}H", data[block : block + size].ljust(size, b"\0"))
        counted |= {index * per_block + n: count for n, count in enumerate(counts) if count}
    found += [
        f"cluster {cluster} is used {used[cluster]} times, its refcount is {counted.get(cluster, 0)}"
        for cluster in sorted(used.keys() | counted.keys())
        if used[cluster] != counted.get(cluster, 0) or used[cluster] > 1
    ]
    return found


def words(data: bytes, offset: int, count: int) -> tuple[int, ...]:
    """A table of 64-bit integers; what the file lacks of it is zero."""
    return struct.unpack(f">{count}Q", data[offset : offset + 8 * count].ljust(8 * count, b"\0"))
