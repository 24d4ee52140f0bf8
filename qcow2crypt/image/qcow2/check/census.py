"""Count every reference in a qcow2 file: what the refcounts ought to be.

Walks the L1 tables of the disk and of all snapshots, the L2 tables, compressed clusters, the
snapshot table, bitmaps, the LUKS header and the refcount structures.  Never sees guest bytes or
keys.  Source: the qcow2 document; what counts as a corruption is what ``qemu-img check`` 7.2
counts as one.

Hostile tables cost no more than the file is long: every table is read once, however often it is
named, and a reference out of the file is a finding, not a count.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby

from qcow2crypt.errors import FormatError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.census_l2 import L2Census, L2Fix
from qcow2crypt.image.qcow2.check.census_tables import (
    BadTableError,
    SnapshotRow,
    bitmap_clusters,
    bitmap_tables,
    snapshot_rows,
)
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.named import NamedTables
from qcow2crypt.image.qcow2.check.order import InOrder, one_by_one
from qcow2crypt.image.qcow2.check.references import L2_TABLE, References, overlapping
from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, L1_BYTES_MAX
from qcow2crypt.image.qcow2.refcountblock import REFCOUNT_TABLE_OFFSET_MASK
from qcow2crypt.image.qcow2.runs import equal_runs
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import read_entries, read_parts
from qcow2crypt.units import align_up

_L1_RESERVED = 0x7F00_0000_0000_01FF


class Census:
    """The references of one file.

    ``content``   counts of everything but the refcount table and its blocks
    ``counts``    the same with these: what the refcounts ought to be
    ``rebuild``   the refcount structures are so damaged that only new ones help
    ``fixes``     L2 entries that a repair replaces
    ``structure_corruptions``  what is wrong with the refcount structures themselves
    ``snapshots``, ``snapshots_changed``  the snapshot table; does a repair change it?
    ``snapshot_table``  its clusters
    ``mixed``     clusters of L1 and L2 tables that something else uses, too: data may be there
    ``fatal``     why the rest could not be looked at, else None
    """

    def __init__(
        self,
        file: HostFile,
        structure: Structure,
        findings: Findings,
        in_order: InOrder = one_by_one,
        *,
        repair: bool = False,
    ) -> None:
        self._file = file
        self._in_order = in_order
        self._structure = structure
        self._header = structure.header
        self._findings = findings
        self._repair = repair
        self.refs = References(file, self._header, findings)
        self.content = self.refs.counts
        self.counts = self.content
        self.rebuild = False
        self.fatal: str | None = None
        self.fixes: list[L2Fix] = []
        self.snapshots: tuple[SnapshotRow, ...] = ()
        self._all_looked_at = True
        self.snapshots_changed = False
        self.snapshot_table: range = range(0)
        self.mixed = ClusterCounts()
        self.structure_corruptions = 0
        self.allocated = self.compressed = self.fragmented = 0

    def take(self) -> None:
        """Count.  Findings go out as they come; ``fatal`` tells when the walk had to stop."""
        try:
            self.snapshots = snapshot_rows(
                self._file, self._header, self._findings, repair=self._repair
            )
            self.snapshots_changed = self._findings.corruptions_fixed > 0
            self._take()
        except BadTableError as error:
            self.fatal = str(error)
        except FormatError as error:
            self._findings.error(str(error))
            self.fatal = str(error)
        self.refs.overflows()
        self.content.clamp(self.refs.max)

    def _take(self) -> None:
        header, refs = self._header, self.refs
        refs.region(0, header.cluster_size, "header")
        l2 = L2Census(self._file, header, refs, self._findings, repair=self._repair)
        active = self._l1_tables([(header.l1_table_offset, header.l1_size)], "L1 table")
        shared = self._l1_tables(list(self._snapshot_l1s()), "snapshot L1 table")
        self._in_order(
            (offset for offset, _ in groupby(merge(active, shared))),
            l2.read,
            lambda offset, entries: l2.table(offset, entries, active[offset], shared[offset]),
            header.cluster_size,
        )
        self.fixes = l2.fixes
        self.allocated, self.compressed, self.fragmented = (
            l2.allocated,
            l2.compressed,
            l2.fragmented,
        )
        last = self.snapshots[-1].end if self.snapshots else header.snapshots_offset
        length = last - header.snapshots_offset
        if refs.region(header.snapshots_offset, length, "snapshot table"):
            bits = header.cluster_bits
            self.snapshot_table = range(header.snapshots_offset >> bits, (last - 1 >> bits) + 1)
        if self._structure.crypto is not None:
            pointer = self._structure.crypto
            refs.region(pointer.offset, pointer.length, "encryption header")
        if self._structure.bitmaps is not None:
            self._bitmaps(self._structure.bitmaps)
        before = self._findings.corruptions
        self._refcount_structures()
        self.structure_corruptions = self._findings.corruptions - before
        self._find_mixed(active, shared)

    def _find_mixed(self, active: NamedTables, shared: NamedTables) -> None:
        """Before the counts are cut to what a refcount can say: then nobody sees it any more."""
        header = self._header
        self._mix(header.l1_table_offset, min(header.l1_size * ENTRY_SIZE, self._file.size), 1)
        for offset, _ in groupby(merge(active, shared)):
            self._mix(offset, header.cluster_size, active[offset] + shared[offset])

    def _mix(self, offset: int, length: int, times: int) -> None:
        """Is there more, or less, than a table that is named so often?"""
        bits = self._header.cluster_bits
        for cluster in range(offset >> bits, (offset + length - 1 >> bits) + 1):
            if self.refs.counts[cluster] != times:
                self.mixed[cluster] = 1

    def _bitmaps(self, pointer: BitmapsPointer) -> None:
        header, refs = self._header, self.refs
        refs.region(pointer.directory_offset, pointer.directory_size, "bitmap directory")
        tables = bitmap_tables(self._file, header, pointer, self._findings)
        refs.tables(tables, "bitmap table")
        for start, end, times in overlapping(tables):
            for host in bitmap_clusters(self._file, header, start, end, self._findings):
                refs.region(host, header.cluster_size, "bitmap", times)

    def pack_snapshots(self) -> bytes:
        """The snapshot table as a repair leaves it."""
        return b"".join(row.raw.ljust(align_up(len(row.raw), 8), b"\0") for row in self.snapshots)

    def _snapshot_l1s(self) -> Iterator[tuple[int, int]]:
        header, findings = self._header, self._findings
        if self.snapshots and header.incompatible_features & INCOMPAT_DATA_FILE:
            findings.corruption(f"{len(self.snapshots)} snapshots in an image with a data file")
        for row in self.snapshots:
            if row.l1_offset % header.cluster_size:
                findings.corruption(
                    f"snapshot {row.shown} l1_offset={row.l1_offset:#x}: L1 table is not cluster "
                    "aligned; snapshot table entry corrupted"
                )
            elif row.l1_size > L1_BYTES_MAX // ENTRY_SIZE:
                findings.corruption(
                    f"snapshot {row.shown} l1_size={row.l1_size:#x}: L1 table is too large; "
                    "snapshot table entry corrupted"
                )
            else:
                yield row.l1_offset, row.l1_size

    def _l1_tables(self, tables: list[tuple[int, int]], what: str) -> NamedTables:
        """Look at L1 tables; how often each L2 table inside the file is named.

        Tables that overlap are read once: what counts is how many of them hold a place.
        """
        found = NamedTables(self.refs.clusters, self._header.cluster_bits)
        ranges = [(offset, offset + size * ENTRY_SIZE) for offset, size in tables]
        self.refs.tables(ranges, what)
        for start, end, times in overlapping(ranges):
            for _, part in read_parts(self._file, start, (end - start) // ENTRY_SIZE):
                for _, entry, count in equal_runs(part):
                    self._l1_entry(entry, times * count, found)
        return found

    def _l1_entry(self, entry: int, times: int, found: NamedTables) -> None:
        findings, size = self._findings, self._header.cluster_size
        if entry & _L1_RESERVED:
            text = f"found L1 entry with reserved bits set: {entry:x}"
            findings.corruption(text, times)
        # An entry with flags and no offset names the header as a table, for qemu-img too.
        offset = entry & OFFSET_MASK
        self.refs.region(offset, size, L2_TABLE, times)
        if offset % size:
            text = f"l2_offset={offset:x}: Table is not cluster aligned; L1 entry corrupted"
            findings.corruption(text, times)
        if offset < self._file.size and not found.add(offset, times) and self._all_looked_at:
            self._all_looked_at = False
            findings.error("too many L2 tables are not cluster aligned to look at them all")

    def _refcount_structures(self) -> None:
        header, findings, refs = self._header, self._findings, self.refs
        self.content = refs.counts.copy()
        table = header.refcount_table_offset
        length = header.refcount_table_clusters * header.cluster_size
        refs.region(table, length, "refcount table")
        for index, entry in read_entries(self._file, table, length // ENTRY_SIZE):
            offset = entry & REFCOUNT_TABLE_OFFSET_MASK
            if entry != offset:
                findings.corruption(f"refcount table entry {index} has reserved bits set")
                self.rebuild = True
            elif offset % header.cluster_size:
                findings.corruption(
                    f"refcount block {index} is not cluster aligned; refcount table entry corrupted"
                )
                self.rebuild = True
            elif offset >= refs.file_length:
                findings.corruption(
                    f"refcount block {index} is outside image", repaired=self._repair
                )
                self.rebuild = self.rebuild or self._repair
            else:
                refs.region(offset, header.cluster_size, "refcount block")
                # Where a refcount cannot say 2 this is no finding, but nobody may write there.
                self.rebuild = self.rebuild or refs.counts[offset // header.cluster_size] != 1
                count = min(refs.counts[offset // header.cluster_size], refs.max)
                if count != 1:
                    findings.corruption(f"refcount block {index} refcount={count}")
