"""Images whose tables point where they must not, put together by hand.

Knows the qcow2 document only.  ``CROSSED`` has every pointer of a small image set to every
structure of it; ``CLAIMS`` are small files that claim much; ``large`` writes large ones.
"""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from qcow2crypt.testing.damage.tiny import (
    COMPRESSED,
    COPIED,
    FIELDS,
    extension,
    put,
    put_fields,
    tiny,
)

BITS = 9
CLUSTER = 1 << BITS
_BODY = tiny(cluster_bits=BITS)
_TABLE, _BLOCK, _SNAPSHOTS, _SHARED, _BITMAPS, _BITS = (n * CLUSTER for n in (1, 2, 7, 8, 9, 10))
_END = 11 * CLUSTER


def snapshot_entry(l1_offset: int, l1_size: int, size: int = 4 * CLUSTER) -> bytes:
    """One entry of the snapshot table: id and name are one letter each."""
    head = struct.pack(">QIHHIIQII", l1_offset, l1_size, 1, 1, 0, 0, 0, 0, 16)
    return (head + struct.pack(">QQ", 0, size) + b"1s").ljust(64, b"\0")


def bitmap_entry(table: int, size: int) -> bytes:
    """One entry of the bitmap directory."""
    return struct.pack(">QIIBBHI", table, size, 0, 1, 16, 1, 0) + b"b".ljust(8, b"\0")


def whole() -> bytes:
    """An image with a snapshot that shares the L2 table, and a bitmap."""
    data = _BODY.data.ljust(_END, b"\0")
    data = put(data, _SNAPSHOTS, snapshot_entry(_SHARED, 1))
    data = put(data, _SHARED, struct.pack(">Q", _BODY.l2))
    bitmaps = struct.pack(">IIQQ", 1, 0, 32, _BITMAPS)
    data = put(data, _BODY.extensions, extension(0x23852875, bitmaps))
    data = put(data, _BITMAPS, bitmap_entry(_BITS, 1))
    counts = [1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1]
    data = put(data, _BLOCK, struct.pack(">11H", *counts))
    # What two disks share has no COPIED flag.
    data = put(data, _BODY.l1, struct.pack(">Q", _BODY.l2))
    data = put(data, _BODY.l2, struct.pack(">QQ", *_BODY.clusters))
    fields = {"nb_snapshots": 1, "snapshots_offset": _SNAPSHOTS, "autoclear_features": 1}
    return put_fields(data, fields)


WHOLE = whole()

_POINTERS = {
    "L1 entry": _BODY.l1,
    "L2 entry 0": _BODY.l2,
    "L2 entry 1": _BODY.l2 + 8,
    "refcount table entry": _TABLE,
    "L1 entry of a snapshot": _SHARED,
    "L1 offset of a snapshot": _SNAPSHOTS,
    "bitmap directory": _BODY.extensions + 8 + 16,
    "bitmap table": _BITMAPS,
    **{
        field: FIELDS[field][0]
        for field in ("l1_table_offset", "refcount_table_offset", "snapshots_offset")
    },
}
_TARGETS = {
    "header": 0,
    "refcount table": _TABLE,
    "refcount block": _BLOCK,
    "L1": _BODY.l1,
    "L2": _BODY.l2,
    "data": _BODY.clusters[0],
    "snapshots": _SNAPSHOTS,
    "L1 of a snapshot": _SHARED,
    "bitmaps": _BITMAPS,
    "end": _END,
    "behind the end": _END + 5 * CLUSTER,
    "far behind": 1 << 40,
    "last offset": (1 << 56) - CLUSTER,
    "half a cluster": _BODY.l2 + CLUSTER // 2,
}

CROSSED = {
    f"{pointer} to {target}{', copied' * bool(flag)}": put(
        WHOLE, place, struct.pack(">Q", offset | flag)
    )
    for pointer, place in _POINTERS.items()
    for target, offset in _TARGETS.items()
    for flag in ((0, COPIED) if "entry" in pointer and "refcount" not in pointer else (0,))
}
"""Every pointer to every structure: to itself, to the header, past the end, to what another has."""


def bomb(compression: str = "zlib") -> bytes:
    """2 MiB of zeros a cluster in a few bytes, in all 1024 clusters of the disk."""
    body = tiny(cluster_bits=21)
    size = body.cluster_size
    if compression == "zlib":
        deflater = zlib.compressobj(9, wbits=-12)
        packed = deflater.compress(bytes(64 * size)) + deflater.flush()
    else:
        # One frame that asks for a window of 2 GiB: descriptor, window, then a block of one byte
        # repeated 128 KiB times, over and over.
        block = struct.pack("<I", (1 << 17 << 3) | 1 << 1)[:3] + b"x"
        packed = struct.pack("<IBB", 0xFD2FB528, 0, (31 - 10) << 3) + 1000 * block
    place = body.clusters[0]
    sectors = len(packed) // 512
    entry = COMPRESSED | sectors << (62 - 13) | place
    data = put(body.data[:place], body.l2, struct.pack(">Q", entry) * 1024) + packed.ljust(512)
    data = put_fields(data, {"size": 1024 * size})
    if compression == "zstd":
        data = put_fields(data, {"incompatible_features": 8, "compression_type": 1})
    return data


def _claims() -> dict[str, bytes]:
    many = snapshot_entry(_SHARED, 1 << 22, 1 << 62) * 4
    noise = random.Random(5).randbytes(4096)
    return {
        "bomb": bomb(),
        "bomb, zstd": bomb("zstd"),
        "L1 of 32 MiB that is not there": put_fields(_BODY.data, {"l1_size": 1 << 22}),
        "L1 of more": put_fields(_BODY.data, {"l1_size": (1 << 22) + 1}),
        "disk of 2**63": put_fields(_BODY.data, {"size": 1 << 63}),
        "disk of 2**63 - 512": put_fields(_BODY.data, {"size": (1 << 63) - 512}),
        "disk of 2**64 - 512": put_fields(_BODY.data, {"size": (1 << 64) - 512}),
        "disk of 2**61": put_fields(
            tiny(cluster_bits=21).data[: 5 << 21], {"size": 1 << 61, "l1_size": 1 << 22}
        ),
        "65536 snapshots": put_fields(WHOLE, {"nb_snapshots": 65536}),
        "snapshots with an L1 of 32 MiB each": put_fields(
            put(WHOLE, _SNAPSHOTS, many), {"nb_snapshots": 4}
        ),
        "refcount table of 8 MiB": put_fields(WHOLE, {"refcount_table_clusters": 1 << 14}),
        "65535 bitmaps": put(WHOLE, _BODY.extensions + 8, struct.pack(">I", 65535)),
        "bitmap directory of 64 MiB": put(
            WHOLE, _BODY.extensions + 8, struct.pack(">IIQ", 65535, 0, 64 << 20)
        ),
        "bitmap table of 32 MiB": put(WHOLE, _BITMAPS, bitmap_entry(_BODY.l1, 1 << 22)),
        "clusters of 2 MiB, cut": tiny(cluster_bits=21).data[: (4 << 21) + 99],
        "noise for tables": _BODY.data[:CLUSTER] + noise,
    }


CLAIMS = _claims()


def large(path: Path, entry: int, entries: int = 1 << 22) -> Path:
    """An image with an L1 table of 32 MiB, full of one entry."""
    body = tiny(cluster_bits=BITS)
    fields = {
        "l1_size": entries,
        "l1_table_offset": 7 * CLUSTER,
        "size": entries * (CLUSTER // 8) * CLUSTER,
    }
    with path.open("wb") as file:
        file.write(put_fields(body.data, fields))
        for _ in range(entries >> 12):
            file.write(struct.pack(">Q", entry) * (1 << 12))
    return path


LARGE = {"one L2 table": _BODY.l2 | COPIED, "the header": COPIED, "nothing": 0, "far": 1 << 40}
"""What all entries of a large L1 table are."""
