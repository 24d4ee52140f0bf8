"""What the tables tell an owner at a glance: a file cut short, clusters that hold raw zeros.

A look, not a check: it reads the L1 table and the few L2 tables that lie last in the file, so it
takes milliseconds for an image of any size.  Damaged tables are left for ``check`` to name.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.entries import (
    FLAG_COMPRESSED,
    FLAG_ZERO,
    OFFSET_MASK,
    compressed_offset_bits,
)
from qcow2crypt.image.qcow2.header import CRYPT_AES, Header
from qcow2crypt.image.qcow2.tables import ENTRY_SIZE, read_l1, read_table
from qcow2crypt.units import SECTOR_SIZE

_TABLES_LOOKED_AT = 16
_CLUSTERS_LOOKED_AT = 64
_ENTRIES_AT_ONCE = 1 << 16


def table_remarks(file: HostFile, header: Header, *, external_data: bool) -> list[str]:
    """Findings for ``info``, ready to print.  Raises SourceError."""
    remarks = []
    needed, clusters = _look(file, header, external_data=external_data)
    if needed > file.size:
        remarks.append(
            f"the file is cut short: its tables use it up to host offset {needed:#x} or beyond, "
            f"and it ends at {file.size:#x}. What is missing reads as zeros, or as noise where "
            "it is encrypted"
        )
    elif header.crypt_method == CRYPT_AES and not external_data and _any_raw_zeros(file, clusters):
        remarks.append(
            "some encrypted clusters hold raw zeros, as QEMU leaves them when it preallocates; "
            "they read as noise unless raw zeros are read as zeros (raw_zeros='zeros' in Python)"
        )
    return remarks


def looks_cut_short(file: HostFile, header: Header, *, external_data: bool) -> bool:
    """Whether the file ends before what its tables name last.  Raises SourceError."""
    return _look(file, header, external_data=external_data)[0] > file.size


def _look(file: HostFile, header: Header, *, external_data: bool) -> tuple[int, list[int]]:
    """How long the file has to be at least, and some of its last clusters."""
    needed = _end_of_tables(header)
    l1 = read_l1(file, header.l1_table_offset, header.l1_size)
    l2_offsets = _last_tables(l1)
    needed = max(needed, max(l2_offsets, default=0) + 1)
    clusters: list[int] = []
    for offset in l2_offsets:
        if offset % header.cluster_size or offset >= file.size:
            continue
        table = read_table(file, offset, header.cluster_size // ENTRY_SIZE)
        clusters += _data_clusters(table, header)
        if not external_data:
            needed = max(needed, _end_of_data(table, header, clusters))
            del clusters[:-_CLUSTERS_LOOKED_AT]
    return needed, clusters


def _last_tables(l1: array[int]) -> list[int]:
    """The host offsets of the L2 tables that lie last in the file, the last first."""
    last: list[int] = []
    for start in range(0, len(l1), _ENTRIES_AT_ONCE):  # four million offsets take much memory
        found = {entry & OFFSET_MASK for entry in l1[start : start + _ENTRIES_AT_ONCE]} - {0}
        last = sorted(found.union(last), reverse=True)[:_TABLES_LOOKED_AT]
    return last


def _end_of_tables(header: Header) -> int:
    """The end of what the header alone points to."""
    l1_end = header.l1_table_offset + header.l1_size * ENTRY_SIZE
    return max(header.refcount_table_offset + 1, l1_end if header.l1_size else 0)


def _data_clusters(table: array[int], header: Header) -> Iterator[int]:
    """Host offsets of the standard clusters in an L2 table, in guest order."""
    step = 2 if header.extended_l2 else 1
    zero = 0 if header.extended_l2 or header.version == 2 else FLAG_ZERO
    for entry in set(table[::step]):
        if entry & OFFSET_MASK and not entry & (FLAG_COMPRESSED | zero):
            yield entry & OFFSET_MASK


def _end_of_data(table: array[int], header: Header, clusters: list[int]) -> int:
    step = 2 if header.extended_l2 else 1
    mask = (1 << compressed_offset_bits(header.cluster_bits)) - 1
    packed = (entry & mask for entry in set(table[::step]) if entry & FLAG_COMPRESSED)
    return max(itertools.chain(clusters, packed), default=-1) + 1


def _any_raw_zeros(file: HostFile, clusters: list[int]) -> bool:
    """Whether a cluster that lies last in the file begins with a sector of raw zeros."""
    last = sorted(clusters, reverse=True)[:_CLUSTERS_LOOKED_AT]
    return any(not any(file.pread(SECTOR_SIZE, offset)) for offset in last)
