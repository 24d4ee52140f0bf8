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
from collections.abc import Sequence

from qcow2crypt.errors import MappingError
from qcow2crypt.image.extents import CompressedRun, ExtentKind, Run
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import ENTRY_SIZE, FILE_SIZE_MAX, Qcow1Header
from qcow2crypt.units import SECTOR_SIZE

FLAG_COMPRESSED = 1 << 63

_L1_PIECE = 8192
_TABLES_MAX = 128
"""So many tables and pieces, of 64 KiB at most, are kept."""
_BIG_ENDIAN_HOST = sys.byteorder == "big"


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
        self.cluster_size = header.cluster_size
        self._lock = threading.Lock()
        self._tables: OrderedDict[tuple[int, int], array[int]] = OrderedDict()

    def runs_at(self, position: int, end: int) -> Sequence[Run]:
        """See ``RunMap.runs_at``."""
        return (self.run_at(position, end),)

    def run_at(self, position: int, end: int) -> Run:
        """How the byte at ``position`` is stored, and up to where the same holds.

        At most up to ``end``, and no further than the L2 table.  Raises MappingError.
        """
        coverage = self._header.l2_coverage
        index = position // coverage
        used = self._next_l1_entry(index, -(-end // coverage))
        if used > index:
            return Run(ExtentKind.UNALLOCATED, None, min(used * coverage, end))
        return self._run_in_table(index, position, min((index + 1) * coverage, end))

    def _next_l1_entry(self, index: int, end: int) -> int:
        """The first index from ``index`` on whose L1 entry is not zero; ``end`` if none is."""
        while index < end:
            first = index - index % _L1_PIECE
            piece = self._l1_piece(first)
            if not piece:
                return end  # what lies behind the end of the file is zero
            at = _next_used(piece, index - first, len(piece))
            if at < len(piece):
                return min(first + at, end)
            index = first + _L1_PIECE
        return end

    def _run_in_table(self, l1_index: int, position: int, end: int) -> Run:
        """A run that lies inside one L2 table."""
        header = self._header
        bits, size = header.cluster_bits, header.cluster_size
        table_offset = self._l2_offset(l1_index)
        table = self._table(table_offset, header.l2_entries)
        first = position >> bits
        index = first & (header.l2_entries - 1)
        stop = (first + 1) << bits
        entry = table[index] if index < len(table) else 0
        if entry & FLAG_COMPRESSED:
            host = parse_compressed(entry, bits).host_offset
            return Run(ExtentKind.COMPRESSED, host, min(stop, end))
        last = index + (-(-end >> bits)) - first  # behind the last entry that counts
        if not entry:
            found = _next_used(table, index, last)
            return Run(ExtentKind.UNALLOCATED, None, min((first - index + found) << bits, end))
        if entry % SECTOR_SIZE or entry >= FILE_SIZE_MAX:
            where = table_offset + index * ENTRY_SIZE
            raise _bad_entry("L2 entry", where, entry, position & -size)
        host = entry + position % size
        for follower in table[index + 1 : last]:
            entry += size
            if follower != entry or entry >= FILE_SIZE_MAX:
                break
            stop += size
        return Run(ExtentKind.DATA, host, min(stop, end))

    def compressed_runs(self, position: int, end: int) -> list[CompressedRun]:
        """See ``RunMap.compressed_runs``.  Stops at the end of an L2 table."""
        header = self._header
        bits = header.cluster_bits
        table = self._table(self._l2_offset(position // header.l2_coverage), header.l2_entries)
        index = (position >> bits) & (header.l2_entries - 1)
        count = ((end - 1) >> bits) - (position >> bits) + 1
        runs = []
        for entry in table[index : index + count]:
            if not entry & FLAG_COMPRESSED:
                break
            runs.append(parse_compressed(entry, bits))
        return runs

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


def _next_used(table: array[int], start: int, stop: int) -> int:
    """The first index from ``start`` on whose entry is not zero; ``stop`` if none is before.

    What lies behind the end of the table is zero.
    """
    if start < len(table) and table[start]:
        return start
    # In C, or a table of nothing but zeros would take minutes.
    rest = table[start:stop].tobytes()
    used = rest.lstrip(b"\0")
    return start + (len(rest) - len(used)) // ENTRY_SIZE if used else stop


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
