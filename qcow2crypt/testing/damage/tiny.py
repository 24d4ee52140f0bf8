"""A tiny qcow2 image, put together by hand: the body that the damages are done to.

Knows the qcow2 document only, and nothing of this package, so that both cannot be wrong in the
same way.  Nothing in it is encrypted.

The guest disk has four clusters.  0 and 1 are stored, 2 is not, 3 has the zero flag (version 3)
or is not stored either (version 2).  Each sector repeats 16 bytes of its own, so that a large
image packs small.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

MAGIC = b"QFI\xfb"
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1

# Where each field of the header stands, and how many bytes it has.
FIELDS = {
    "magic": (0, 4),
    "version": (4, 4),
    "backing_file_offset": (8, 8),
    "backing_file_size": (16, 4),
    "cluster_bits": (20, 4),
    "size": (24, 8),
    "crypt_method": (32, 4),
    "l1_size": (36, 4),
    "l1_table_offset": (40, 8),
    "refcount_table_offset": (48, 8),
    "refcount_table_clusters": (56, 4),
    "nb_snapshots": (60, 4),
    "snapshots_offset": (64, 8),
    "incompatible_features": (72, 8),
    "compatible_features": (80, 8),
    "autoclear_features": (88, 8),
    "refcount_order": (96, 4),
    "header_length": (100, 4),
    "compression_type": (104, 1),
}


@dataclass(frozen=True, slots=True)
class Tiny:
    """An image file and what its guest sees, with the host offsets of what can be damaged."""

    data: bytes
    content: bytes
    cluster_size: int
    extensions: int
    l1: int
    l2: int
    clusters: tuple[int, int]


def tiny(version: int = 3, cluster_bits: int = 9) -> Tiny:
    """The image: header, refcount table, refcount block, L1, L2 and two data clusters."""
    size = 1 << cluster_bits
    refcount_table, refcount_block, l1, l2, first, second = (size * n for n in range(1, 7))
    noise = random.Random(cluster_bits)
    stored = b"".join(noise.randbytes(16) * 32 for _ in range(2 * size // 512))
    zero_flag = ZERO if version == 3 else 0
    header = dict.fromkeys(FIELDS, 0) | {
        "magic": int.from_bytes(MAGIC, "big"),
        "version": version,
        "cluster_bits": cluster_bits,
        "size": 4 * size,
        "l1_size": 1,
        "l1_table_offset": l1,
        "refcount_table_offset": refcount_table,
        "refcount_table_clusters": 1,
        "refcount_order": 4,
        "header_length": 112,
    }
    length = 112 if version == 3 else 72
    packed = bytearray(112)
    for field, value in header.items():
        packed[slice(*place(field))] = value.to_bytes(FIELDS[field][1], "big")
    clusters = (
        bytes(packed[:length]),
        struct.pack(">Q", refcount_block),
        struct.pack(">7H", *[1] * 7),
        struct.pack(">Q", l2 | COPIED),
        struct.pack(">4Q", first | COPIED, second | COPIED, 0, zero_flag),
        stored[:size],
        stored[size:],
    )
    data = b"".join(cluster.ljust(size, b"\0") for cluster in clusters)
    content = stored + bytes(2 * size)
    return Tiny(data, content, size, length, l1, l2, (first, second))


def place(field: str) -> tuple[int, int]:
    """Start and end of a header field."""
    offset, length = FIELDS[field]
    return offset, offset + length


def put(data: bytes, offset: int, new: bytes) -> bytes:
    """``data`` with ``new`` in place of what stands at ``offset``; it grows where it must."""
    return data[:offset].ljust(offset, b"\0") + new + data[offset + len(new) :]


def put_fields(data: bytes, fields: dict[str, int]) -> bytes:
    """``data`` with header fields replaced."""
    for field, value in fields.items():
        data = put(data, FIELDS[field][0], value.to_bytes(FIELDS[field][1], "big"))
    return data


def extension(kind: int, content: bytes, length: int | None = None) -> bytes:
    """One header extension, padded; ``length`` is what it claims, if not the truth."""
    claimed = len(content) if length is None else length
    return struct.pack(">II", kind, claimed) + content + bytes(-len(content) % 8)


def entry(value: int) -> bytes:
    """A table entry."""
    return struct.pack(">Q", value)
