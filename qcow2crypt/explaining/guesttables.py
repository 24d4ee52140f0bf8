"""The tables of the guest disks in one file, from an L1 entry on and back from a host offset.

qcow2 and qcow version 1 alike: the active disk and those of all snapshots, their L1 tables, and
what one L2 table says.  Never sees guest bytes, keys or other files.  Source: the qcow2 document,
"Cluster mapping".  Tables are read only as far as the file reaches.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from qcow2crypt.errors import FormatError
from qcow2crypt.explaining.regions import Claim, RegionKind
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import Qcow1Header
from qcow2crypt.image.qcow1.mapping import FLAG_COMPRESSED as QCOW1_COMPRESSED
from qcow2crypt.image.qcow1.mapping import parse_compressed as parse_qcow1_compressed
from qcow2crypt.image.qcow1.structure import Qcow1Structure
from qcow2crypt.image.qcow2.check.references import overlapping
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_ZERO,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, L1_BYTES_MAX, Header
from qcow2crypt.image.qcow2.runs import entry_runs, equal_runs, single_entries
from qcow2crypt.image.qcow2.snapshots import snapshot_entries
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import read_parts, read_table

AnyStructure: TypeAlias = "Structure | Qcow1Structure"

POSITIONS_MAX = 1 << 16
"""So many places that name one host offset are looked for in L1 tables and in L2 tables."""


class Disk(NamedTuple):
    """A guest disk of a file.  ``snapshot`` is the id of the snapshot, None for the active one."""

    snapshot: str | None
    name: str
    l1_offset: int
    l1_entries: int
    table_entry_end: int = 0
    """The host offset behind its entry in the snapshot table."""

    @property
    def l1_length(self) -> int:
        """Bytes of the L1 table."""
        return self.l1_entries * ENTRY_SIZE

    @property
    def shown(self) -> str:
        """Which disk it is, in words."""
        return "" if self.snapshot is None else f"snapshot {self.snapshot} '{self.name}'"


class Stored(NamedTuple):
    """Entries of an L2 table from ``first`` on: their clusters lie one behind the other.

    ``length`` bytes at host offset ``host``; a compressed cluster is alone.
    """

    first: int
    host: int
    length: int
    kind: RegionKind


class GuestTables:
    """The L1 and L2 tables of one file.  ``problems`` are those of the snapshot table."""

    def __init__(self, file: HostFile, structure: AnyStructure) -> None:
        self.file = file
        self.structure = structure
        self.header: Header | Qcow1Header = structure.header
        self.cluster_size = self.header.cluster_size
        self.coverage = self.header.l2_coverage
        self.l2_length = self.header.l2_entries * self._entry_size()
        self.problems: list[str] = []
        self.disks: tuple[Disk, ...] = tuple(self._disks())

    def _entry_size(self) -> int:
        extended = isinstance(self.header, Header) and self.header.extended_l2
        return 2 * ENTRY_SIZE if extended else ENTRY_SIZE

    def _disks(self) -> Iterator[Disk]:
        header = self.header
        yield Disk(None, "", header.l1_table_offset, header.l1_size)
        if isinstance(header, Qcow1Header):
            return
        limit = L1_BYTES_MAX // ENTRY_SIZE
        try:
            for one, end in snapshot_entries(self.file, header):
                size = min(one.l1_size, limit)
                if one.l1_table_offset % self.cluster_size:
                    self.problems.append(
                        f"the L1 table of snapshot {one.id} is not cluster aligned: it lies at "
                        f"{one.l1_table_offset:#x}"
                    )
                    size = 0
                yield Disk(one.id, one.name, one.l1_table_offset, size, end)
        except FormatError as error:
            self.problems.append(str(error))

    def l1_runs(self, start: int, entries: int) -> Iterator[tuple[int, int, int]]:
        """The L2 tables that an L1 table, or a part of one, names.

        Index, host offset of the table, and how many entries in a row name it.
        """
        for first, part in read_parts(self.file, start, entries):
            for index, entry, count in equal_runs(part):
                offset = self.l2_offset(entry)
                if offset:
                    yield first + index, offset, count

    def l2_offset(self, entry: int) -> int:
        """Where the L2 table lies that an L1 entry names; 0 for none, or none that can be."""
        offset = entry & OFFSET_MASK if isinstance(self.header, Header) else entry
        aligned = isinstance(self.header, Qcow1Header) or not offset % self.cluster_size
        return offset if aligned and offset < self.file.size else 0

    def l2_runs(self, offset: int) -> Iterator[Stored]:
        """What the L2 table at ``offset`` says lies in the file."""
        table = read_table(self.file, offset, self.l2_length // ENTRY_SIZE)
        header = self.header
        if isinstance(header, Qcow1Header):
            return self._qcow1_runs(table)
        if header.incompatible_features & INCOMPAT_DATA_FILE:
            return iter(())  # all data lies in another file
        return self._qcow2_runs(table[::2] if header.extended_l2 else table, header)

    def _qcow2_runs(self, table: array[int], header: Header) -> Iterator[Stored]:
        size = header.cluster_size
        for index, entry, count in entry_runs(table, size):
            host = entry & OFFSET_MASK
            if entry & FLAG_COMPRESSED:
                run = parse_compressed(entry, header.cluster_bits)
                yield Stored(index, run.host_offset, run.length, RegionKind.COMPRESSED)
            elif host:
                zero = entry & FLAG_ZERO and not header.extended_l2
                kind = RegionKind.ZERO_KEPT if zero else RegionKind.DATA
                yield Stored(index, host, count * size, kind)

    def _qcow1_runs(self, table: array[int]) -> Iterator[Stored]:
        size = self.cluster_size
        for index, entry, _ in single_entries(table):
            if entry & QCOW1_COMPRESSED:
                run = parse_qcow1_compressed(entry, self.header.cluster_bits)
                yield Stored(index, run.host_offset, run.length, RegionKind.COMPRESSED)
            else:
                yield Stored(index, entry, size, RegionKind.DATA)

    # From a disk on.

    def l2_claims(self, disk: Disk) -> Iterator[tuple[Claim, int]]:
        """The L2 tables of a disk, each with its L1 index."""
        for first, offset, count in self.l1_runs(disk.l1_offset, disk.l1_entries):
            for index in range(first, first + count):
                yield self._l2_claim(disk, index, offset), index

    def data_claims(self, disk: Disk, l1_index: int, offset: int) -> Iterator[Claim]:
        """What the L2 table at ``offset``, named by an L1 entry of a disk, says of the file."""
        for stored in self.l2_runs(offset):
            yield self._data_claim(disk, l1_index, stored)

    def _l2_claim(self, disk: Disk, index: int, offset: int) -> Claim:
        about = f"named by L1 entry {index}" + (f" of {disk.shown}" if disk.snapshot else "")
        guest = index * self.coverage
        return Claim(RegionKind.L2_TABLE, offset, self.l2_length, about, guest, disk.snapshot)

    def _data_claim(self, disk: Disk, l1_index: int, stored: Stored) -> Claim:
        guest = l1_index * self.coverage + stored.first * self.cluster_size
        return Claim(stored.kind, stored.host, stored.length, disk.shown, guest, disk.snapshot)

    # From a host offset on.

    def claims_on(self, start: int, end: int) -> Iterator[Claim]:
        """Every claim of L2 tables, and by them, that touches a range of the file.

        Reads each table once, however often it is named, so it takes the time of a check.  In
        memory are the offsets of the L2 tables and up to POSITIONS_MAX hits.
        """
        ranges = [(disk.l1_offset, disk.l1_offset + disk.l1_length) for disk in self.disks]
        pieces = [(low, (high - low) // ENTRY_SIZE) for low, high, _ in overlapping(ranges)]
        tables = sorted({offset for piece in pieces for _, offset, _ in self.l1_runs(*piece)})
        hits: dict[int, list[Stored]] = {}
        count = 0
        for offset in tables:
            found = [one for one in self.l2_runs(offset) if _touches(one, start, end)]
            if found or (offset < end and start < offset + self.l2_length):
                hits[offset] = found
                count += 1 + len(found)
            if count >= POSITIONS_MAX:
                self.problems.append("too many L2 tables name this place to look at them all")
                break
        if hits:
            yield from self._named(pieces, hits, start, end)

    def _named(
        self, pieces: Iterable[tuple[int, int]], hits: dict[int, list[Stored]], start: int, end: int
    ) -> Iterator[Claim]:
        """The claims of those L1 entries that name a table in ``hits``."""
        positions: list[tuple[int, int]] = []
        for low, entries in pieces:
            for index, offset, count in self.l1_runs(low, entries):
                if offset in hits:
                    room = min(count, POSITIONS_MAX - len(positions))
                    positions += [
                        (low + (index + more) * ENTRY_SIZE, offset) for more in range(room)
                    ]
        for disk in self.disks:
            at = bisect_left(positions, (disk.l1_offset, 0))
            stop = disk.l1_offset + disk.l1_length
            while at < len(positions) and positions[at][0] < stop:
                position, offset = positions[at]
                index = (position - disk.l1_offset) // ENTRY_SIZE
                if offset < end and start < offset + self.l2_length:
                    yield self._l2_claim(disk, index, offset)
                for stored in hits[offset]:
                    yield self._data_claim(disk, index, stored)
                at += 1


def _touches(stored: Stored, start: int, end: int) -> bool:
    return stored.host < end and start < stored.host + stored.length
