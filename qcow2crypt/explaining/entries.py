"""Entries of L1 and L2 tables with every bit named.  Pure: integers in, words out.

Source: the qcow2 document, "Cluster mapping", "Extended L2 Entries"; of qcow version 1, images
made by QEMU.
"""

from __future__ import annotations

from qcow2crypt.explaining.facts import Bits
from qcow2crypt.image.qcow1.mapping import parse_compressed as parse_qcow1_compressed
from qcow2crypt.image.qcow2.entries import FLAG_COMPRESSED, OFFSET_MASK, parse_compressed
from qcow2crypt.image.qcow2.subclusters import SUBCLUSTER_BITS

_SUBCLUSTERS = 1 << SUBCLUSTER_BITS


def l1_bits(entry: int, *, active: bool) -> tuple[Bits, ...]:
    """An L1 entry of qcow2.  ``active``: not that of a snapshot."""
    offset = entry & OFFSET_MASK
    table = f"the L2 table lies at host offset {offset:#x}" if offset else "there is no L2 table"
    return (
        _copied(entry, "the L2 table", active=active),
        _reserved(entry, 62, 56),
        Bits("host offset", 55, 9, offset, table),
        _reserved(entry, 8, 0),
    )


def l2_bits(entry: int, cluster_bits: int, *, has_zero: bool, active: bool) -> tuple[Bits, ...]:
    """An L2 entry of qcow2, or the first half of an extended one.

    ``has_zero``: bit 0 is the ZERO flag; not so in version 2 and in extended entries.
    """
    if entry & FLAG_COMPRESSED:
        return _compressed(entry, cluster_bits)
    offset = entry & OFFSET_MASK
    where = f"the cluster lies at host offset {offset:#x}" if offset else "no cluster is kept"
    last: tuple[Bits, ...] = (_reserved(entry, 8, 0),)
    if has_zero:
        says = "reads as zeros" if entry & 1 else "not marked as zeros"
        last = (_reserved(entry, 8, 1), Bits("ZERO", 0, 0, entry & 1, says))
    return (
        _copied(entry, "the cluster", active=active),
        Bits("COMPRESSED", 62, 62, 0, "not compressed"),
        _reserved(entry, 61, 56),
        Bits("host offset", 55, 9, offset, where),
        *last,
    )


def _compressed(entry: int, cluster_bits: int) -> tuple[Bits, ...]:
    run = parse_compressed(entry & ~(1 << 63), cluster_bits)
    split = 62 - (cluster_bits - 8)
    more = (entry & (FLAG_COMPRESSED - 1)) >> split
    copied = "as it must be" if not entry >> 63 else "must never be set here"
    return (
        Bits("COPIED", 63, 63, entry >> 63, copied),
        Bits("COMPRESSED", 62, 62, 1, "compressed, and in clear in encrypted images, too"),
        Bits(
            "more sectors",
            61,
            split,
            more,
            f"the data reaches {more} sectors further than its first: {run.length} bytes",
        ),
        Bits("host offset", split - 1, 0, run.host_offset, "any byte, not only whole clusters"),
    )


def subcluster_bits(bitmap: int, index: int) -> tuple[Bits, ...]:
    """The second half of an extended L2 entry, and what it says of subcluster ``index``."""
    zero, allocated = bitmap >> _SUBCLUSTERS, bitmap & (1 << _SUBCLUSTERS) - 1
    return (
        Bits("read as zeros", 63, 32, zero, f"bits of {zero.bit_count()} of 32 subclusters"),
        Bits("allocated", 31, 0, allocated, f"bits of {allocated.bit_count()} of 32 subclusters"),
        Bits(f"zero {index}", 32 + index, 32 + index, zero >> index & 1, f"of subcluster {index}"),
        Bits(f"allocated {index}", index, index, allocated >> index & 1, f"of subcluster {index}"),
    )


def qcow1_l1_bits(entry: int) -> tuple[Bits, ...]:
    """An L1 entry of qcow version 1: an offset and nothing else."""
    says = f"the L2 table lies at host offset {entry:#x}" if entry else "there is no L2 table"
    return (Bits("host offset", 63, 0, entry, says),)


def qcow1_l2_bits(entry: int, cluster_bits: int) -> tuple[Bits, ...]:
    """An L2 entry of qcow version 1."""
    if not entry >> 63:
        says = f"the cluster lies at host offset {entry:#x}" if entry else "no cluster is kept"
        return (
            Bits("COMPRESSED", 63, 63, 0, "not compressed"),
            Bits("host offset", 62, 0, entry, says),
        )
    run = parse_qcow1_compressed(entry, cluster_bits)
    split = 63 - cluster_bits
    return (
        Bits("COMPRESSED", 63, 63, 1, "compressed, and in clear in encrypted images, too"),
        Bits("length", 62, split, run.length, f"{run.length} bytes"),
        Bits("host offset", split - 1, 0, run.host_offset, "any byte, not only whole clusters"),
    )


def _copied(entry: int, what: str, *, active: bool) -> Bits:
    flag = entry >> 63
    says = f"{what} has refcount 1: it may be written in place"
    if not active:
        says = "means nothing in a snapshot"
    elif not flag:
        says = f"{what} is shared, or there is none"
    return Bits("COPIED", 63, 63, flag, says)


def _reserved(entry: int, high: int, low: int) -> Bits:
    value = entry >> low & (1 << high - low + 1) - 1
    return Bits("reserved", high, low, value, "as it should be" if not value else "ignored")
