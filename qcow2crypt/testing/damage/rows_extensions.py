"""Damages to header extensions: types, lengths, and what the known ones hold."""

from __future__ import annotations

import struct

from qcow2crypt.errors import (
    ExternalReferenceError,
    HeaderError,
    Qcow2CryptError,
    UnsupportedFeatureError,
)
from qcow2crypt.testing.damage.table import V2, V3, Damage, reads, refused
from qcow2crypt.testing.damage.tiny import Tiny, extension, put, put_fields

UNKNOWN = 0x12345678
BACKING_FORMAT = 0xE2792ACA
BITMAPS = 0x23852875
CRYPTO_HEADER = 0x0537BE77
DATA_FILE = 0x44415441

ROOM = 512 - V3.extensions - 8  # for the data of the first extension

DIRECTORY = "bitmaps have no say in what the disk holds: only their pointer is checked to read it"


def holding(*extensions: bytes, body: Tiny = V3, **fields: int) -> bytes:
    """The image with these extensions in place of its own."""
    return put_fields(put(body.data, body.extensions, b"".join(extensions)), fields)


def first(name: str, part: int) -> tuple[str, int]:
    """How an error names a part of the first extension; ``part`` bytes behind its type."""
    return (name, V3.extensions + part)


SPLITTING = [
    reads("unknown", holding(extension(UNKNOWN, b"hello"))),
    reads("unknown and empty", holding(extension(UNKNOWN, b""))),
    reads("one type twice", holding(extension(UNKNOWN, b"a"), extension(UNKNOWN, b"b"))),
    reads("in version 2", holding(extension(UNKNOWN, b"hello"), body=V2), V2.content),
    reads("up to the last byte", holding(extension(UNKNOWN, bytes(ROOM)))),
    reads("up to the last byte with its padding", holding(extension(UNKNOWN, bytes(ROOM - 5)))),
    refused(
        "one byte too long",
        holding(extension(UNKNOWN, b"", ROOM + 1)),
        HeaderError,
        first("length of header extension 0x12345678", 4),
    ),
    refused(
        "much too long",
        holding(extension(UNKNOWN, b"", 2**32 - 1)),
        HeaderError,
        first("length of header extension 0x12345678", 4),
    ),
    refused(
        "into the backing file name",
        holding(extension(UNKNOWN, b"", 80), backing_file_offset=160),
        HeaderError,
        first("length of header extension 0x12345678", 4),
    ),
    refused(
        "an end marker that is too long",
        holding(extension(0, b"", 2**32 - 1)),
        HeaderError,
        first("length of header extension 0x00000000", 4),
    ),
    reads("an end marker with a length", holding(extension(0, b"", 8), b"\xff" * 64)),
    reads("nonsense behind the end marker", holding(extension(0, b""), b"\xff" * 64)),
]

NAMES = [
    *(
        reads(
            f"backing format of {length} bytes", holding(extension(BACKING_FORMAT, b"q" * length))
        )
        for length in (0, 3, 15)
    ),
    *(
        refused(
            f"backing format of {length} bytes",
            holding(extension(BACKING_FORMAT, b"q" * length)),
            HeaderError,
            first("length of the backing format extension", 4),
        )
        for length in (16, 17, 100)
    ),
    reads("data file name that nothing asks for", holding(extension(DATA_FILE, b"other.raw"))),
    refused(
        "data file",
        holding(extension(DATA_FILE, b"other.raw"), incompatible_features=4),
        ExternalReferenceError,
        says="'other.raw'",
    ),
]


def bitmaps(count: int = 1, reserved: int = 0, size: int = 24, offset: int = 512) -> bytes:
    """The data of a bitmaps extension."""
    return struct.pack(">IIQQ", count, reserved, size, offset)


def bad_bitmaps(name: str, content: bytes, part: str, at: int) -> list[Damage]:
    """Rows for a bitmaps extension that counts, and for the same one out of date."""
    data = holding(extension(BITMAPS, content), autoclear_features=1)
    where = first(f"bitmaps: {part}", 8 + at)
    return [
        refused(f"bitmaps: {name}", data, HeaderError, where),
        reads(f"bitmaps out of date: {name}", holding(extension(BITMAPS, content))),
    ]


def odd_bitmaps(name: str, content: bytes) -> Damage:
    """A row for a bitmap directory that QEMU does not like."""
    data = holding(extension(BITMAPS, content), autoclear_features=1)
    return reads(f"bitmaps: {name}", data, qemu="refuses", why=DIRECTORY)


BITMAP_ROWS = [
    *bad_bitmaps("none", bitmaps(count=0), "number of bitmaps", 0),
    *bad_bitmaps("too many", bitmaps(count=65536), "number of bitmaps", 0),
    *bad_bitmaps("reserved field", bitmaps(reserved=1), "reserved field", 4),
    *bad_bitmaps("directory too large", bitmaps(size=1024 * 65535 + 1), "directory size", 8),
    *bad_bitmaps("directory not aligned", bitmaps(offset=100), "directory offset", 16),
    odd_bitmaps("a directory that holds something else", bitmaps()),
    odd_bitmaps("many in a small directory", bitmaps(count=65535)),
    odd_bitmaps("directory of no bytes", bitmaps(size=0)),
    odd_bitmaps("directory behind the end of the file", bitmaps(offset=2**63)),
    *(
        refused(
            f"bitmaps: {len(content)} bytes, autoclear bit {bit}",
            holding(extension(BITMAPS, content), autoclear_features=bit),
            HeaderError,
            first("length of the bitmaps extension", 4),
        )
        for content in (b"", bitmaps()[:-1], bitmaps() + b"1")
        for bit in (0, 1)
    ),
    reads(
        "bitmaps in version 2", holding(extension(BITMAPS, bitmaps(offset=9)), body=V2), V2.content
    ),
]


def crypto(offset: int = 512, length: int = 592) -> bytes:
    """The data of a full disk encryption header pointer."""
    return struct.pack(">QQ", offset, length)


def luks(
    name: str,
    content: bytes,
    error: type[Qcow2CryptError],
    where: tuple[str, int] | None = None,
) -> Damage:
    """A row for an image that claims LUKS encryption."""
    data = holding(extension(CRYPTO_HEADER, content), crypt_method=2)
    says = "" if where else "LUKS encryption"
    return refused(f"LUKS: {name}", data, error, where, says=says)


POINTER = "full disk encryption header pointer"
CRYPTO_ROWS = [
    *(
        refused(
            f"LUKS header pointer of {len(content)} bytes with crypt_method {method}",
            holding(extension(CRYPTO_HEADER, content), crypt_method=method),
            HeaderError,
            first(f"type of the {POINTER}", 0),
        )
        for content in (crypto(), crypto() + bytes(8))
        for method in (0, 1)
    ),
    luks(
        "pointer of 15 bytes",
        crypto()[:-1],
        HeaderError,
        first(f"length of the {POINTER} extension", 4),
    ),
    luks(
        "pointer of 24 bytes",
        crypto() + bytes(8),
        HeaderError,
        first(f"length of the {POINTER} extension", 4),
    ),
    luks("header not aligned", crypto(100), HeaderError, first(f"{POINTER}: host offset", 8)),
    luks("header that is none", crypto(), UnsupportedFeatureError),
    luks("header behind the end of the file", crypto(2**40), UnsupportedFeatureError),
    luks("header far behind it", crypto(2**63), UnsupportedFeatureError),
    luks("header of no bytes", crypto(length=0), UnsupportedFeatureError),
    refused(
        "LUKS: no header pointer",
        put_fields(V3.data, {"crypt_method": 2}),
        UnsupportedFeatureError,
        says="LUKS encryption",
    ),
]

ROWS = [*SPLITTING, *NAMES, *BITMAP_ROWS, *CRYPTO_ROWS]
