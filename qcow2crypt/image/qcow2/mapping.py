"""Where is it?  From guest ranges to extents, by walking the L1 and L2 tables.

Knows tables; never sees guest bytes or keys.  Source: the qcow2 document, "Cluster mapping".
Tables are read only as far as the file reaches: what a table claims beyond the end of the file
is zero, so a small hostile file cannot make us allocate much.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator

from qcow2crypt.errors import MappingError
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_ZERO,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.units import GuestOffset, HostOffset

_CACHE_BYTES = 8 << 20
_BIG_ENDIAN_HOST = sys.byteorder == "big"


class ClusterMap:
    """The guest-to-host map of one image.  Thread-safe; keeps up to 8 MiB of L2 tables."""

    def __init__(self, file: HostFile, header: Header) -> None:
        self._file = file
        self._header = header
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, array[int]] = OrderedDict()
        self._tables_max = max(2, _CACHE_BYTES // header.cluster_size)
        self._l1 = _read_table(file, header.l1_table_offset, header.l1_size)

    def extents(self, start: GuestOffset, end: GuestOffset) -> Iterator[Extent]:
        """The extents of ``start`` to ``end``, in order, without gaps, clipped to the range.

        Neighbours are merged while they are of one kind and, for DATA, consecutive in the file.
        A compressed cluster is always an extent of its own.  Raises MappingError.
        """
        pending: Extent | None = None
        for extent in self._raw_extents(start, end):
            if pending is None:
                pending = extent
            elif _continues(pending, extent):
                length = pending.length + extent.length
                pending = Extent(pending.kind, pending.guest_offset, length, pending.host_offset)
            else:
                yield pending
                pending = extent
        if pending is not None:
            yield pending

    def _raw_extents(self, start: GuestOffset, end: GuestOffset) -> Iterator[Extent]:
        coverage = self._header.l2_coverage
        position = int(start)
        while position < end:
            l1_index = position // coverage
            entry = self._l1[l1_index] if l1_index < len(self._l1) else 0
            table_end = min((l1_index + 1) * coverage, end)
            if entry & OFFSET_MASK == 0:
                if l1_index >= len(self._l1):
                    table_end = end
                length = table_end - position
                yield Extent(ExtentKind.UNALLOCATED, GuestOffset(position), length)
            else:
                table = self._l2_table(l1_index, entry)
                yield from self._table_extents(table, entry, position, table_end)
            position = table_end

    def _table_extents(
        self, table: array[int], l1_entry: int, start: int, end: int
    ) -> Iterator[Extent]:
        """The extents of a range that lies inside one L2 table."""
        header = self._header
        bits = header.cluster_bits
        entries_mask = header.l2_entries - 1
        position = start
        while position < end:
            index = (position >> bits) & entries_mask
            entry = table[index] if index < len(table) else 0
            kind, host = self._classify(entry, l1_entry, index, position)
            cluster = (position >> bits) + 1
            if kind is ExtentKind.DATA:
                # The run goes on as long as entries grow by one cluster: the common case.
                follower = (entry & OFFSET_MASK) + header.cluster_size
                while cluster << bits < end:
                    index += 1
                    entry = table[index] if index < len(table) else 0
                    if entry & ~_IGNORED != follower:
                        break
                    follower += header.cluster_size
                    cluster += 1
            stop = min(cluster << bits, end)
            if host is not None and kind is not ExtentKind.COMPRESSED:
                host = HostOffset(host + (position & (header.cluster_size - 1)))
            yield Extent(kind, GuestOffset(position), stop - position, host)
            position = stop

    def _classify(
        self, entry: int, l1_entry: int, index: int, position: int
    ) -> tuple[ExtentKind, HostOffset | None]:
        header = self._header
        if entry & FLAG_COMPRESSED:
            run = parse_compressed(entry, header.cluster_bits)
            return ExtentKind.COMPRESSED, HostOffset(run.host_offset)
        host = entry & OFFSET_MASK
        if host % header.cluster_size or (entry & FLAG_ZERO and header.version == 2):
            bad_offset = host % header.cluster_size
            raise MappingError(
                "L2 entry is not valid" if bad_offset else "zero flag in a version 2 image",
                field="L2 entry",
                offset=(l1_entry & OFFSET_MASK) + index * ENTRY_SIZE,
                found=f"{entry:#018x}",
                allowed=f"a host offset that is a multiple of {header.cluster_size:#x}"
                if bad_offset
                else "bit 0 clear",
                guest_offset=position & -header.cluster_size,
            )
        if entry & FLAG_ZERO:
            return ExtentKind.ZERO, HostOffset(host) if host else None
        if host == 0:
            return ExtentKind.UNALLOCATED, None
        return ExtentKind.DATA, HostOffset(host)

    def compressed_entry(self, position: GuestOffset) -> int:
        """The raw L2 entry that maps ``position``; the caller knows that it is compressed."""
        header = self._header
        l1_index = position // header.l2_coverage
        table = self._l2_table(l1_index, self._l1[l1_index])
        return table[(position >> header.cluster_bits) & (header.l2_entries - 1)]

    def _l2_table(self, l1_index: int, l1_entry: int) -> array[int]:
        offset = l1_entry & OFFSET_MASK
        with self._lock:
            table = self._tables.get(offset)
            if table is not None:
                self._tables.move_to_end(offset)
                return table
        header = self._header
        if offset % header.cluster_size:
            raise MappingError(
                "L1 entry is not valid",
                field=f"L1 entry {l1_index}",
                offset=header.l1_table_offset + l1_index * ENTRY_SIZE,
                found=f"{l1_entry:#018x}",
                allowed=f"a host offset that is a multiple of {header.cluster_size:#x}",
                guest_offset=l1_index * header.l2_coverage,
            )
        table = _read_table(self._file, offset, header.l2_entries)
        with self._lock:
            self._tables[offset] = table
            while len(self._tables) > self._tables_max:
                self._tables.popitem(last=False)
        return table


_IGNORED = ~(OFFSET_MASK | FLAG_COMPRESSED | FLAG_ZERO)
"""Bits of a standard L2 entry that say nothing about where and what the data is."""


def _continues(first: Extent, second: Extent) -> bool:
    if first.kind is not second.kind or first.kind is ExtentKind.COMPRESSED:
        return False
    if first.host_offset is None or second.host_offset is None:
        return first.host_offset is second.host_offset
    return first.host_offset + first.length == second.host_offset


def _read_table(file: HostFile, offset: int, entries: int) -> array[int]:
    """A table as native integers, cut at the end of the file (a last part entry is kept)."""
    present = max(0, min(entries, -(-(file.size - offset) // ENTRY_SIZE)))
    table = array("Q", bytes(present * ENTRY_SIZE))
    if present:
        file.pread_into(memoryview(table).cast("B"), offset)
    if not _BIG_ENDIAN_HOST:
        table.byteswap()
    return table
