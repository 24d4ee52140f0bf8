"""L1, L2 and compressed-cluster entries: what the bits say.  Pure layout, no I/O.

Source: the qcow2 document, "Cluster mapping".  Entries are 64-bit big-endian integers in the
file; here they are plain integers.  Reserved bits are ignored when reading, as QEMU does.
"""

from __future__ import annotations

from qcow2crypt.image.extents import CompressedRun

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55: the host offset in L1 and standard L2 entries."""
FLAG_COPIED = 1 << 63
"""The refcount of the table or cluster is exactly one: it may be written in place."""
FLAG_COMPRESSED = 1 << 62
FLAG_ZERO = 1 << 0
"""Version 3 only: the cluster reads as zeros."""
ENTRY_SIZE = 8
EXTENDED_ENTRY_SIZE = 16
COMPRESSED_SECTOR = 512


def compressed_offset_bits(cluster_bits: int) -> int:
    """So many low bits of a compressed L2 entry are the host offset."""
    return 62 - (cluster_bits - 8)


def parse_compressed(entry: int, cluster_bits: int) -> CompressedRun:
    """Take a compressed L2 entry apart.

    The low ``compressed_offset_bits`` are a byte offset of any alignment.  The bits above, up to
    bit 61, count the 512-byte sectors that follow the one with the first byte.
    """
    offset_bits = compressed_offset_bits(cluster_bits)
    offset = entry & ((1 << offset_bits) - 1)
    more_sectors = (entry & (FLAG_COMPRESSED - 1)) >> offset_bits
    length = (more_sectors + 1) * COMPRESSED_SECTOR - offset % COMPRESSED_SECTOR
    return CompressedRun(offset, length)


def pack_compressed(run: CompressedRun, cluster_bits: int) -> int:
    """The L2 entry for a compressed cluster; the twin of ``parse_compressed``."""
    offset_bits = compressed_offset_bits(cluster_bits)
    last = run.host_offset + run.length - 1
    more_sectors = last // COMPRESSED_SECTOR - run.host_offset // COMPRESSED_SECTOR
    return FLAG_COMPRESSED | more_sectors << offset_bits | run.host_offset
