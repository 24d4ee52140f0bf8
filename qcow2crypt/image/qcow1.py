"""The header of qcow version 1, as far as a description needs it.  Pure layout, no I/O.

Source: images made by QEMU.  Integers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qcow2crypt.errors import HeaderError

MAGIC = b"QFI\xfb"
HEADER_SIZE = 48
BACKING_NAME_MAX = 1023
_FIXED = struct.Struct(">4sIQIIQBBHIQ")
_CLUSTER_BITS = (9, 16)
_L2_BITS = (6, 13)


@dataclass(frozen=True, slots=True)
class Qcow1Header:
    """All fields.  Offsets are host offsets in bytes."""

    backing_file_offset: int
    backing_file_size: int
    mtime: int
    size: int
    cluster_bits: int
    l2_bits: int
    crypt_method: int
    l1_table_offset: int


def parse_qcow1(data: bytes) -> Qcow1Header:
    """Read and check a header.  Raises HeaderError."""
    if len(data) < HEADER_SIZE:
        raise _bad("file size", None, f"{len(data)} bytes", f"at least {HEADER_SIZE} bytes")
    magic, version, backing, backing_size, mtime, size, bits, l2_bits, _, crypt, l1 = (
        _FIXED.unpack_from(data)
    )
    if magic != MAGIC:
        raise _bad("magic", 0, magic.hex(" "), MAGIC.hex(" "))
    for name, at, value, (low, high) in (
        ("version", 4, version, (1, 1)),
        ("cluster_bits", 32, bits, _CLUSTER_BITS),
        ("l2_bits", 33, l2_bits, _L2_BITS),
        ("crypt_method", 36, crypt, (0, 1)),
        ("size", 24, size, (2, 2**63 - 1)),
        ("backing_file_size", 16, backing_size if backing else 0, (0, BACKING_NAME_MAX)),
    ):
        if not low <= value <= high:
            raise _bad(name, at, str(value), f"{low} to {high}")
    return Qcow1Header(backing, backing_size, mtime, size, bits, l2_bits, crypt, l1)


def _bad(field: str, offset: int | None, found: str, allowed: str) -> HeaderError:
    return HeaderError(
        "the qcow version 1 header is not valid",
        field=field,
        offset=offset,
        found=found,
        allowed=allowed,
    )
