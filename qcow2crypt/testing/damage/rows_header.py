"""Damages to the fixed fields of the header.  One row for each check and each limit."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qcow2crypt.errors import (
    ExternalReferenceError,
    HeaderError,
    UnsupportedFeatureError,
)
from qcow2crypt.testing.damage.table import C64K, V2, V3, Damage, reads, refused
from qcow2crypt.testing.damage.tiny import FIELDS, extension, put, put_fields

FEATURE_TABLE = 0x6803F857
BEYOND = "an L1 table behind the end of the file is all zero, wherever it lies; to QEMU no longer"


def header(field: str, value: int, **others: int) -> bytes:
    """The image with one field damaged, and some others to go with it."""
    return put_fields(V3.data, {field: value, **others})


def bad(field: str, *values: int, **others: int) -> Iterator[Damage]:
    """Rows for values that a field must not have."""
    for value in values:
        name = ", ".join(f"{key} {number:#x}" for key, number in ({field: value} | others).items())
        data = header(field, value, **others)
        yield refused(name, data, HeaderError, (field, FIELDS[field][0]))


def good(field: str, *values: int, **others: int) -> Iterator[Damage]:
    """Rows for values that a field may have."""
    for value in values:
        yield reads(f"{field} {value:#x}", header(field, value, **others))


def feature(bit: int, **others: int) -> bytes:
    """The image with one incompatible feature bit set."""
    return header("incompatible_features", 1 << bit, **others)


def feature_bit(bit: int) -> tuple[str, int]:
    """How an error names a feature bit."""
    return (f"incompatible_features bit {bit}", 72)


def named(bit: int, name: bytes, kind: int = 0, tail: bytes = b"") -> bytes:
    """The image with an unknown feature bit and a feature name table."""
    table = extension(FEATURE_TABLE, struct.pack(">BB46s", kind, bit, name) + tail)
    return put(feature(bit), V3.extensions, table)


IDENTITY = [
    refused("magic of something else", header("magic", 0x4D546864), HeaderError, ("magic", 0)),
    refused("magic with one bit flipped", header("magic", 0x514649FA), HeaderError, ("magic", 0)),
    *bad("version", 0, 1, 4, 2**32 - 1),
    *bad("cluster_bits", 0, 8, 22, 31, 32, 63, 64, 255, 2**32 - 1),
    *bad("header_length", 0, 72, 103, 513, 2**31, 2**32 - 1),
    *good("header_length", 104, 105, 108, 111, 112, 113, 120, 128, 504, 512),
    refused(
        "header_length 508: four bytes are no extension",
        header("header_length", 508),
        HeaderError,
        ("header extension type and length", 508),
    ),
]

BACKING = [
    *bad("backing_file_offset", 513, 2**32, 2**63, 2**64 - 1),
    *bad("backing_file_size", 313, 2**31, 2**32 - 1, backing_file_offset=200),
    refused(
        "backing_file_size 1024",
        put_fields(C64K.data, {"backing_file_offset": 1000, "backing_file_size": 1024}),
        HeaderError,
        ("backing_file_size", 16),
    ),
    refused(
        "a backing file that may be there",
        put(header("backing_file_offset", 200, backing_file_size=8), 200, b"none.raw"),
        ExternalReferenceError,
        says="'none.raw'",
    ),
    reads("backing file name of no bytes", header("backing_file_offset", 200)),
    reads("backing file name of no bytes, at the end", header("backing_file_offset", 512)),
    reads("backing file name of NULs", header("backing_file_offset", 200, backing_file_size=9)),
    reads("backing file name inside the header", header("backing_file_offset", 1)),
    reads("backing file name without a place", header("backing_file_size", 9)),
]

SIZES = [
    *bad("size", 2**63, 2**64 - 1),
    refused(
        "size one byte more than the L1 table maps",
        header("size", 512 * 64 + 1),
        HeaderError,
        ("l1_size", 36),
    ),
    reads("size 0", header("size", 0), b""),
    reads("size 511: less than a sector", header("size", 511), b""),
    reads("size 513", header("size", 513), V3.content[:512]),
    reads("size 2047", header("size", 2047), V3.content[:1536]),
    reads("size 2049", header("size", 2049)),
    reads("size of all that the L1 table maps", header("size", 2**15), V3.content + bytes(30720)),
    *bad("crypt_method", 3, 2**32 - 1),
    *bad("l1_size", 0, 2**22 + 1, 2**31, 2**32 - 1),
    *good("l1_size", 2, 64, 2**22),
]

TABLES = [
    *bad("l1_table_offset", 1, 256, 2047, 2**63, 2**64 - 512, 2**64 - 1),
    reads("L1 table behind the end of the file", header("l1_table_offset", 2**20), bytes(2048)),
    reads("L1 table far behind it", header("l1_table_offset", 2**62), bytes(2048)),
    reads(
        "L1 table at the last place there is",
        header("l1_table_offset", 2**63 - 512),
        bytes(2048),
        qemu="refuses",
        why=BEYOND,
    ),
    *bad("l1_table_offset", 2**63 - 512, l1_size=64),
    *bad("refcount_table_offset", 1, 256, 2**63 - 512, 2**63, 2**64 - 1),
    *good("refcount_table_offset", 0, 2**20, 2**62),
    *bad("refcount_table_clusters", 0, 2**14 + 1, 2**32 - 1),
    *good("refcount_table_clusters", 2, 2**14),
    refused(
        "refcount table of more than 8 MiB in larger clusters",
        put_fields(C64K.data, {"refcount_table_clusters": 129}),
        HeaderError,
        ("refcount_table_clusters", 56),
    ),
    reads(
        "refcount table of 8 MiB in larger clusters",
        put_fields(C64K.data, {"refcount_table_clusters": 128}),
        C64K.content,
    ),
    *bad("nb_snapshots", 65537, 2**32 - 1),
    *bad("snapshots_offset", 1, 100, 2**63, 2**64 - 1),
    *bad("snapshots_offset", 100, nb_snapshots=1),
    reads("a snapshot where the header is", header("nb_snapshots", 1)),
    reads(
        "snapshots behind the end of the file",
        header("snapshots_offset", 2**20, nb_snapshots=1),
    ),
    reads(
        "more snapshots than there is room for",
        header("nb_snapshots", 65536),
        qemu="refuses",
        why="the snapshot table has no say in what the active disk holds",
    ),
]

FEATURES = [
    reads("dirty bit", feature(0)),
    reads("corrupt bit: readable, not writable", feature(1)),
    refused("external data file", feature(2), ExternalReferenceError, says="external data file"),
    refused("compression bit with deflate", feature(3), HeaderError, feature_bit(3)),
    reads("compression bit with zstd", feature(3, compression_type=1)),
    refused("zstd without the bit", header("compression_type", 1), HeaderError, feature_bit(3)),
    *bad("compression_type", 2, 255),
    *bad("compression_type", 2, incompatible_features=8),
    reads(
        "a compression type behind the end of the header",
        header("compression_type", 1, header_length=104),
    ),
    refused("subclusters of 16 bytes", feature(4), HeaderError, feature_bit(4)),
    refused("unknown feature 5", feature(5), UnsupportedFeatureError, says="features: bit 5 "),
    refused("unknown feature 63", feature(63), UnsupportedFeatureError, says="features: bit 63 "),
    refused(
        "unknown feature with a name",
        named(9, b"strange bit"),
        UnsupportedFeatureError,
        says="bit 9 'strange bit'",
    ),
    refused(
        "unknown feature, a name for another kind of bit",
        named(9, b"compatible", kind=1),
        UnsupportedFeatureError,
        says="features: bit 9 (",
    ),
    refused(
        "unknown feature with an empty name",
        named(9, b""),
        UnsupportedFeatureError,
        says="features: bit 9 (",
    ),
    refused(
        "unknown feature, a feature table with a ragged end",
        named(9, b"strange", tail=b"\0\x09rag"),
        UnsupportedFeatureError,
        says="bit 9 'strange'",
    ),
    refused(
        "two unknown features, one with a name",
        put_fields(named(9, b"strange"), {"incompatible_features": 0x300}),
        UnsupportedFeatureError,
        says="bit 8, bit 9 'strange'",
    ),
    *bad("refcount_order", 7, 2**32 - 1),
    *good("refcount_order", 0, 3, 6),
    *good("compatible_features", 1, 2, 2**63, 2**64 - 1),
    *good("autoclear_features", 1, 4, 2**63),
    refused(
        "raw external data without a data file",
        header("autoclear_features", 2),
        HeaderError,
        ("autoclear_features bit 1", 88),
    ),
    reads("version 2: no features where version 3 has them", V2.data, V2.content),
]

ROWS = [*IDENTITY, *BACKING, *SIZES, *TABLES, *FEATURES]
