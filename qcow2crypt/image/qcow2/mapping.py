"""Where is it?  From guest ranges to extents, by walking the L1 and L2 tables of one layer.

Knows tables; never sees guest bytes, keys or other layers.  Source: the qcow2 document, "Cluster
mapping".  Tables are read only as far as the file reaches: what a table claims beyond the end of
the file is zero, so a small hostile file cannot make us allocate much.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence

from qcow2crypt.errors import MappingError
from qcow2crypt.image.extents import CompressedRun, ExtentKind, Run
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    EXTENDED_ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    FLAG_ZERO,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, SUBCLUSTERS, Header
from qcow2crypt.image.qcow2.manytables import ManyTables
from qcow2crypt.image.qcow2.runs import grows
from qcow2crypt.image.qcow2.subclusters import (
    ALL_ALLOCATED,
    ALL_ZERO,
    SUBCLUSTER_BITS,
    is_valid,
    subcluster_run,
)
from qcow2crypt.image.qcow2.tables import TableCache, end_of_run, read_l1

_DATA, _ZERO = ExtentKind.DATA, ExtentKind.ZERO
_UNALLOCATED, _COMPRESSED = ExtentKind.UNALLOCATED, ExtentKind.COMPRESSED
_UNIFORM = (0, ALL_ALLOCATED, ALL_ZERO)
"""Subclusters that are all alike."""


class ClusterMap:
    """The guest-to-host map of one layer: the active disk, or a snapshot.

    ``l1``      native integers, perhaps fewer than the header says (the rest is zero).  The
                writer changes it, or puts another in its place; reads see that at once.
    ``tables``  the L2 tables, shared by all maps of the file
    ``l1_offset``  where ``l1`` lies, for messages; None: where the header says

    Thread-safe.
    """

    def __init__(
        self,
        file: HostFile,
        header: Header,
        l1: array[int] | None = None,
        tables: TableCache | None = None,
        *,
        l1_offset: int | None = None,
    ) -> None:
        self.l1_offset = header.l1_table_offset if l1_offset is None else l1_offset
        self.l1 = read_l1(file, self.l1_offset, header.l1_size) if l1 is None else l1
        self.tables = TableCache(file, header.cluster_size) if tables is None else tables
        self._header = header
        self._bits = header.cluster_bits
        self.cluster_size = header.cluster_size
        self._offset_mask = header.cluster_size - 1
        self._extended = header.extended_l2
        self._zero_flag = 0 if header.extended_l2 else FLAG_ZERO
        # The bits of an L2 entry that say where and what the data is.
        self._compared = OFFSET_MASK | FLAG_COMPRESSED | self._zero_flag
        self._coverage_bits = header.l2_coverage.bit_length() - 1
        self._coverage_mask = header.l2_coverage - 1
        self._index_mask = header.l2_entries - 1
        self._external = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
        plain = not (self._extended or self._external)
        self._many = ManyTables(self.tables, self.cluster_size) if plain else None

    def runs_at(self, position: int, end: int) -> Sequence[Run]:
        """See ``RunMap.runs_at``."""
        found = self._many.find(self.l1, position, end) if self._many else None
        if found:
            return found
        return (self.run_at(position, end),)

    def run_at(self, position: int, end: int) -> Run:
        """How the byte at ``position`` is stored, and up to where the same holds.

        At most up to ``end``, and no further than the L2 table but where all of it is alike.
        """
        l1 = self.l1
        l1_index = position >> self._coverage_bits
        if l1_index >= len(l1):
            return Run(_UNALLOCATED, None, end)
        l1_entry = l1[l1_index]
        table = self._l2_table(l1_index, l1_entry) if l1_entry & OFFSET_MASK else None
        if table is None:
            return Run(_UNALLOCATED, None, self._end_of_same_tables(l1_index, end))
        limit = min((l1_index + 1) << self._coverage_bits, end)
        if self._extended:
            run = self._extended_run(table, l1_entry, position, limit)
        else:
            run = self._standard_run(table, l1_entry, position, limit)
        if run.stop == limit < end and run.host is None and not position & self._coverage_mask:
            # The whole table says one thing.  In hostile images it may be used a million times.
            return Run(run.kind, None, self._end_of_same_tables(l1_index, end))
        return run

    def _end_of_same_tables(self, l1_index: int, end: int) -> int:
        """Up to where the L1 entries are all like the one at ``l1_index``; at most ``end``."""
        last = min(len(self.l1), (end >> self._coverage_bits) + 1)
        return min(end_of_run(self.l1, l1_index, last) << self._coverage_bits, end)

    def _standard_run(self, table: array[int], l1_entry: int, position: int, end: int) -> Run:
        """A run that lies inside one table of 8-byte entries."""
        cluster = position >> self._bits
        index = cluster & self._index_mask
        entry = table[index]
        host = entry & OFFSET_MASK
        if host & self._offset_mask or self._external:
            self._check_entry(entry, l1_entry, position)
        stop = (cluster + 1) << self._bits
        if entry & FLAG_COMPRESSED:
            run = parse_compressed(entry, self._bits)
            return Run(_COMPRESSED, run.host_offset, min(stop, end))
        has_host = bool(host) or self._is_at_0(entry)
        if entry & FLAG_ZERO:
            if self._header.version == 2:
                problem = "zero flag in a version 2 image"
                raise self._error(problem, entry, l1_entry, position, "bit 0 clear")
            kind = _ZERO
        else:
            kind = _DATA if has_host else _UNALLOCATED
        if stop < end:
            # The run goes on as long as entries grow by one cluster, or stay the same.
            last = index + ((end - 1) >> self._bits) - cluster + 1
            if has_host:
                count = self._grown(memoryview(table)[index:last])
            else:
                count = end_of_run(table, index, last) - index
            stop = (cluster + count) << self._bits
        within = position & self._offset_mask
        return Run(kind, host + within if has_host else None, min(stop, end))

    def _extended_run(self, table: array[int], l1_entry: int, position: int, end: int) -> Run:
        """A run that lies inside one table of 16-byte entries."""
        bits = self._bits
        cluster = position >> bits
        index = cluster & self._index_mask
        entry, bitmap = table[2 * index], table[2 * index + 1]
        host = entry & OFFSET_MASK
        self._check_entry(entry, l1_entry, position)
        if entry & FLAG_COMPRESSED:
            run = parse_compressed(entry, bits)
            return Run(_COMPRESSED, run.host_offset, min((cluster + 1) << bits, end))
        has_host = bool(host) or self._is_at_0(entry)
        if not is_valid(bitmap, has_host_cluster=has_host):
            allowed = "no subcluster allocated and zero at once, none allocated without a cluster"
            problem = "subclusters contradict each other"
            raise self._error(problem, entry, l1_entry, position, allowed, bitmap)
        small_bits = bits - SUBCLUSTER_BITS
        small = position >> small_bits
        kind, count = subcluster_run(bitmap, small & (SUBCLUSTERS - 1))
        stop = (small + count) << small_bits
        if stop < end and bitmap in _UNIFORM:
            last = index + ((end - 1) >> bits) - cluster + 1
            if has_host:
                last = index + self._grown(memoryview(table)[2 * index : 2 * last : 2])
                count = end_of_run(table[2 * index + 1 : 2 * last : 2], 0, last - index)
            else:
                count = (end_of_run(table, 2 * index, 2 * last, 2) >> 1) - index
            stop = (cluster + count) << bits
        within = position & self._offset_mask
        return Run(kind, host + within if has_host else None, min(stop, end))

    def _grown(self, entries: memoryview) -> int:
        """How many of these entries, from the first on, are each one cluster behind the other."""
        size, compared = self.cluster_size, self._compared
        if grows(entries, size):  # most tables do, all the way
            return len(entries)
        follower = entries[0] & compared
        for count, entry in enumerate(entries):
            if entry & compared != follower:
                return count
            follower += size
        return len(entries)

    def _is_at_0(self, entry: int) -> bool:
        """Whether an entry without a host offset has a host cluster: one in a data file, at 0."""
        return self._external and entry & (FLAG_COPIED | self._zero_flag) == FLAG_COPIED

    def _check_entry(self, entry: int, l1_entry: int, position: int) -> None:
        """What QEMU refuses in any entry.  Raises MappingError."""
        host = entry & OFFSET_MASK
        if entry & FLAG_COMPRESSED:
            if self._external:
                problem = "compressed cluster in an image with an external data file"
                raise self._error(problem, entry, l1_entry, position, "bit 62 clear")
        elif host & self._offset_mask:
            allowed = f"a host offset that is a multiple of {self.cluster_size:#x}"
            raise self._error("L2 entry is not valid", entry, l1_entry, position, allowed)
        elif self._external:
            guest = position & -self.cluster_size
            if host != guest and (host or self._is_at_0(entry)):
                problem = "in an external data file every cluster lies at its guest offset"
                allowed = f"host offset {guest:#x}"
                raise self._error(problem, entry, l1_entry, position, allowed)

    def compressed_runs(self, position: int, end: int) -> list[CompressedRun]:
        """See ``RunMap.compressed_runs``.  Stops at the end of an L2 table."""
        bits = self._bits
        l1_index = position >> self._coverage_bits
        table = self._l2_table(l1_index, self.l1[l1_index])
        assert table is not None  # noqa: S101 - there is a compressed cluster in it
        index = (position >> bits) & self._index_mask
        count = ((end - 1) >> bits) - (position >> bits) + 1
        step = 2 if self._extended else 1
        entries = table[index * step : (index + count) * step : step]
        return [
            parse_compressed(entry, bits)
            for entry in itertools.takewhile(FLAG_COMPRESSED.__and__, entries)
        ]

    def _l2_table(self, l1_index: int, l1_entry: int) -> array[int] | None:
        offset = l1_entry & OFFSET_MASK
        if offset & self._offset_mask:
            raise MappingError(
                "L1 entry is not valid",
                field=f"L1 entry {l1_index}",
                offset=self.l1_offset + l1_index * ENTRY_SIZE,
                found=f"{l1_entry:#018x}",
                allowed=f"a host offset that is a multiple of {self.cluster_size:#x}",
                guest_offset=l1_index << self._coverage_bits,
            )
        return self.tables.find(offset)

    def _error(  # noqa: PLR0917 - the parts of one sentence
        self,
        problem: str,
        entry: int,
        l1_entry: int,
        position: int,
        allowed: str,
        bitmap: int | None = None,
    ) -> MappingError:
        size = EXTENDED_ENTRY_SIZE if self._extended else ENTRY_SIZE
        index = (position >> self._bits) & self._index_mask
        return MappingError(
            problem,
            field="L2 entry",
            offset=(l1_entry & OFFSET_MASK) + index * size,
            found=f"{entry:#018x}" + ("" if bitmap is None else f" {bitmap:#018x}"),
            allowed=allowed,
            guest_offset=position & -self.cluster_size,
        )
