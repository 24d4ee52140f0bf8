"""The header of qcow version 1.  Pure layout, no I/O.

Source: images made by QEMU, and which of them it opens.  Integers are big-endian.  The length of
the L1 table is not stored, it follows from the size; there are no refcounts, no snapshots, no
zero clusters and no feature bits.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from qcow2crypt.errors import HeaderError
from qcow2crypt.units import SECTOR_SIZE, align_down, div_up

MAGIC = b"QFI\xfb"
HEADER_SIZE = 48
ENTRY_SIZE = 8
"""Bytes of an entry in an L1 or L2 table."""
BACKING_NAME_MAX = 1023
CRYPT_AES = 1
FILE_SIZE_MAX = 2**63 - 2**30
"""QEMU reads nothing behind this host offset."""

_FIXED = struct.Struct(">4sIQIIQBBHIQ")
_CLUSTER_BITS = (9, 16)
_L2_BITS = (6, 13)
_L1_ENTRIES_MAX = (2**31 - 1) // ENTRY_SIZE


class Qcow1Header(NamedTuple):
    """All fields.  Offsets are host offsets in bytes."""

    backing_file_offset: int
    backing_file_size: int
    mtime: int
    size: int
    cluster_bits: int
    l2_bits: int
    crypt_method: int
    l1_table_offset: int

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table."""
        return 1 << self.l2_bits

    @property
    def l2_coverage(self) -> int:
        """Guest bytes that one L2 table maps."""
        return 1 << self.cluster_bits + self.l2_bits

    @property
    def l1_size(self) -> int:
        """Entries of the L1 table."""
        return div_up(self.size, self.l2_coverage)

    @property
    def guest_size(self) -> int:
        """Bytes of the guest disk: whole sectors, as QEMU counts them."""
        return align_down(self.size, SECTOR_SIZE)


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
        ("crypt_method", 36, crypt, (0, CRYPT_AES)),
        ("size", 24, size, (2, _L1_ENTRIES_MAX << bits + l2_bits)),
        ("backing_file_size", 16, backing_size if backing else 0, (0, BACKING_NAME_MAX)),
        ("backing_file_offset", 8, backing, (0, FILE_SIZE_MAX - BACKING_NAME_MAX)),
        ("l1_table_offset", 40, l1, (0, FILE_SIZE_MAX - (_L1_ENTRIES_MAX + 1) * ENTRY_SIZE)),
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
