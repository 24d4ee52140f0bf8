"""Where is it?  From guest ranges to extents of one qcow version 1 image, by its two tables.

Knows tables; never sees guest bytes or keys.  Source: images made by QEMU.  An L1 entry is the
host offset of an L2 table and nothing else.  An L2 entry is the host offset of a cluster, or has
bit 63 set: then it holds the offset and the length in bytes of compressed data.

The header of a small hostile file may claim an L1 table of 2 GiB.  So tables are read piece by
piece when they are needed, never past the end of the file, and the cache is bounded.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from qcow2crypt.errors import MappingError
from qcow2crypt.image.extents import Extent, ExtentKind, merged
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import ENTRY_SIZE, FILE_SIZE_MAX, Qcow1Header
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, HostOffset

FLAG_COMPRESSED = 1 << 63

_L1_PIECE = 8192
_TABLES_MAX = 128
"""So many tables and pieces, of 64 KiB at most, are kept."""
_BIG_ENDIAN_HOST = sys.byteorder == "big"


class CompressedRun(NamedTuple):
    """Where the data of a compressed cluster lies.  Both in bytes."""

    host_offset: int
    length: int


def parse_compressed(entry: int, cluster_bits: int) -> CompressedRun:
    """Take an L2 entry with bit 63 apart: offset below, length in the bits above it."""
    offset_bits = 63 - cluster_bits
    length = entry >> offset_bits & (1 << cluster_bits) - 1
    return CompressedRun(entry & (1 << offset_bits) - 1, length)


class Qcow1Map:
    """The guest-to-host map of one image.  Thread-safe; keeps up to 8 MiB of tables."""

    def __init__(self, file: HostFile, header: Qcow1Header) -> None:
        self._file = file
        self._header = header
        self._lock = threading.Lock()
        self._tables: OrderedDict[tuple[int, int], array[int]] = OrderedDict()

    def extents(self, start: GuestOffset, end: GuestOffset) -> Iterator[Extent]:
        """The extents of ``start`` to ``end``, in order, without gaps, clipped to the range.

        Neighbours are merged while they are of one kind and, for DATA, consecutive in the file.
        A compressed cluster is always an extent of its own.  Raises MappingError.
        """
        return merged(self._raw_extents(start, end))

    def _raw_extents(self, start: int, end: int) -> Iterator[Extent]:
        """The same, not merged: clusters, and what whole L1 entries leave out."""
        coverage = self._header.l2_coverage
        position = start
        while position < end:
            index = position // coverage
            used = self._next_l1_entry(index, -(-end // coverage))
            if used > index:
                stop = min(used * coverage, end)
                yield Extent(ExtentKind.UNALLOCATED, GuestOffset(position), stop - position)
            else:
                stop = min((index + 1) * coverage, end)
                yield from self._table_extents(index, position, stop)
            position = stop

    def _next_l1_entry(self, index: int, end: int) -> int:
        """The first index from ``index`` on whose L1 entry is not zero; ``end`` if none is."""
        while index < end:
            first = index - index % _L1_PIECE
            piece = self._l1_piece(first)
            if not piece:
                return end  # what lies behind the end of the file is zero
            at = _next_used(piece, index - first)
            if at < len(piece):
                return min(first + at, end)
            index = first + _L1_PIECE
        return end

    def _table_extents(self, l1_index: int, start: int, end: int) -> Iterator[Extent]:
        """Cluster by cluster, for a range that lies inside one L2 table."""
        header = self._header
        size = header.cluster_size
        table_offset = self._l2_offset(l1_index)
        table = self._table(table_offset, header.l2_entries)
        position = start
        while position < end:
            index = (position >> header.cluster_bits) & (header.l2_entries - 1)
            entry = table[index] if index < len(table) else 0
            stop = min((position | size - 1) + 1, end)
            kind, host = ExtentKind.UNALLOCATED, None
            if entry & FLAG_COMPRESSED:
                kind = ExtentKind.COMPRESSED
                host = HostOffset(parse_compressed(entry, header.cluster_bits).host_offset)
            elif entry:
                if entry % SECTOR_SIZE or entry >= FILE_SIZE_MAX:
                    where = table_offset + index * ENTRY_SIZE
                    raise _bad_entry("L2 entry", where, entry, position & -size)
                kind, host = ExtentKind.DATA, HostOffset(entry + position % size)
            yield Extent(kind, GuestOffset(position), stop - position, host)
            position = stop

    def compressed_run(self, position: GuestOffset) -> CompressedRun:
        """Where the data of the compressed cluster at ``position`` lies."""
        header = self._header
        table = self._table(self._l2_offset(position // header.l2_coverage), header.l2_entries)
        entry = table[(position >> header.cluster_bits) & (header.l2_entries - 1)]
        return parse_compressed(entry, header.cluster_bits)

    def _l2_offset(self, l1_index: int) -> int:
        """Where an L2 table lies.  Raises MappingError."""
        first = l1_index - l1_index % _L1_PIECE
        offset = self._l1_piece(first)[l1_index - first]
        if offset >= FILE_SIZE_MAX:
            where = self._l1_offset(l1_index)
            guest = l1_index * self._header.l2_coverage
            raise _bad_entry(f"L1 entry {l1_index}", where, offset, guest)
        return offset

    def _l1_offset(self, index: int) -> int:
        return self._header.l1_table_offset + index * ENTRY_SIZE

    def _l1_piece(self, first: int) -> array[int]:
        """Entries of the L1 table from ``first`` on, a multiple of the piece."""
        return self._table(self._l1_offset(first), min(_L1_PIECE, self._header.l1_size - first))

    def _table(self, offset: int, entries: int) -> array[int]:
        """A table as native integers, cut at the end of the file; from the cache if it is there."""
        key = (offset, entries)
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                return table
        stored = max(0, min(entries, -(-(self._file.size - offset) // ENTRY_SIZE)))
        table = array("Q", bytes(stored * ENTRY_SIZE))
        if stored:
            self._file.pread_into(memoryview(table).cast("B"), offset)
        if not _BIG_ENDIAN_HOST:
            table.byteswap()
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _TABLES_MAX:
                self._tables.popitem(last=False)
        return table


def _next_used(table: array[int], index: int) -> int:
    """The first index from ``index`` on whose entry is not zero; the length if none is."""
    if index < len(table) and table[index]:
        return index
    # In C, or a table of nothing but zeros would take minutes.
    rest = table[index:].tobytes()
    return index + (len(rest) - len(rest.lstrip(b"\0"))) // ENTRY_SIZE


def _bad_entry(field: str, offset: int, entry: int, guest_offset: int) -> MappingError:
    return MappingError(
        f"{field[:2]} entry is not valid",
        field=field,
        offset=offset,
        found=f"{entry:#018x}",
        allowed=f"a host offset below {FILE_SIZE_MAX:#x}"
        + (f" that is a multiple of {SECTOR_SIZE}" if field == "L2 entry" else ""),
        guest_offset=guest_offset,
    )
