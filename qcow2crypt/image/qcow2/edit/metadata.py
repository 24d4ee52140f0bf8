"""The metadata of an image that is being changed, and the order in which it reaches the disk.

Guest data is written at once, into clusters that nothing on disk refers to, or over data that
the guest gives up.  L2 tables, L1 entries and refcounts change in memory; ``commit`` writes them:

    refcount blocks | their table (and the header, when the table moved) | L2 tables, L1 entries
                    | counts of clusters that nothing refers to any more

Each bar is a barrier: what stands before it is on disk before anything behind it is written.
So a reference never is on disk before its refcount and before the data that it leads to, and a
cluster is not used anew before the last reference to it is gone.  A crash at any point leaves
clusters that are counted and not used, at worst.

Images with lazy refcounts have the dirty bit set before the first such change.  Their refcounts
are then written when the image is closed, and the dirty bit is cleared after that.

Source: the qcow2 document, "Refcounts", "Cluster mapping" and "Header" (feature bits).
"""

from __future__ import annotations

from array import array

from qcow2crypt.errors import MappingError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bulk.snapshottable import read_rows
from qcow2crypt.image.qcow2.bulk.switch import write_header
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import COMPAT_LAZY_REFCOUNTS, INCOMPAT_DIRTY, Header
from qcow2crypt.image.qcow2.tables import TableCache, pack_table
from qcow2crypt.units import div_up

_DIRTY_BYTES_MAX = 4 << 20
_DIRTY_CLUSTERS_MIN = 8


class Metadata:
    """The tables and refcounts of one image open for writing.

    ``l1`` and ``tables`` are shared with the map that reads use, so these see every change at
    once.  ``data_file`` is the external data file, if there is one.  Not thread-safe.
    """

    def __init__(
        self,
        file: HostFile,
        header: Header,
        l1: array[int],
        tables: TableCache,
        data_file: HostFile | None,
    ) -> None:
        self.file = file
        self.header = header
        """As it stands in the file."""
        self.l1 = l1
        self.tables = tables
        self.data_file = data_file
        l1.extend(array("Q", [0]) * (header.l1_size - len(l1)))
        self._bits = header.cluster_bits
        self.protected = ProtectedClusters()
        self.protected.add(0)
        self._protect(header.l1_table_offset, header.l1_size * ENTRY_SIZE)
        rows = read_rows(file, header)
        for row in rows:
            self._protect(row.snapshot.l1_table_offset, row.snapshot.l1_size * ENTRY_SIZE)
        self._protect(header.snapshots_offset, sum(len(row.entry) for row in rows))
        self.refcounts = Refcounts(file, header, self.protected)
        self._bad_tables: set[int] = set()
        """L2 tables that are two things at once."""
        for entry in l1:
            if entry & OFFSET_MASK:
                cluster = (entry & OFFSET_MASK) >> self._bits
                if cluster in self.protected:
                    self._bad_tables.add(cluster)
                self.protected.add(cluster)
        self._dirty_l1: set[int] = set()
        self._lazy = bool(header.compatible_features & COMPAT_LAZY_REFCOUNTS)

    def _protect(self, offset: int, length: int) -> None:
        self.protected.add_range(offset >> self._bits, div_up(length, 1 << self._bits))

    # ------------------------------------------------------------------------- L2 tables

    def table(self, l1_index: int) -> array[int] | None:
        """The L2 table, to be looked at; None where there is none.  Raises MappingError."""
        entry = self.l1[l1_index]
        offset = entry & OFFSET_MASK
        if not offset:
            return None
        if offset % self.header.cluster_size:
            allowed = f"a host offset that is a multiple of {self.header.cluster_size:#x}"
            raise self._bad_l1(l1_index, "L1 entry is not valid", allowed)
        return self.tables.get(offset)

    def edit_table(self, l1_index: int) -> array[int]:
        """The L2 table, to be changed: a new one where there is none, a copy where it is shared.

        Raises MappingError where the table overlaps other metadata, TargetError.
        """
        old = self.table(l1_index)
        entry = self.l1[l1_index]
        offset = entry & OFFSET_MASK
        if old is not None:
            self._check_table(l1_index, offset)
            if entry & FLAG_COPIED:
                return self.tables.edit(offset)
        size = self.header.cluster_size
        new = array("Q", bytes(size)) if old is None else self._copy(old)
        cluster = self.refcounts.allocate(1)
        try:
            # Written at once, so that a full disk is told now and not at a flush.
            self.file.pwrite(pack_table(new), cluster * size)
        except BaseException:
            self.refcounts.give_back(cluster, 1)
            raise
        self.protected.add(cluster)
        self.tables.put(cluster * size, new)
        if old is not None:
            self.refcounts.release(offset >> self._bits)
        self.set_l1(l1_index, cluster * size | FLAG_COPIED)
        return new

    def _copy(self, table: array[int]) -> array[int]:
        """A copy for us alone.  COPIED is not believed: it would let us write into a snapshot."""
        new = table[:]
        if self.data_file is None and max(new) >= FLAG_COPIED:
            for index in range(0, len(new), len(new) // self.header.l2_entries):
                entry = new[index]
                if (
                    entry & FLAG_COPIED
                    and self.refcounts.get((entry & OFFSET_MASK) >> self._bits) != 1
                ):
                    new[index] = entry & ~FLAG_COPIED
        return new

    def drop_table(self, l1_index: int) -> None:
        """Let go of an L2 table and of all that it refers to."""
        table = self.table(l1_index)
        if table is None:
            return
        offset = self.l1[l1_index] & OFFSET_MASK
        self._check_table(l1_index, offset)
        step = len(table) // self.header.l2_entries
        guest = l1_index * self.header.l2_coverage
        held = [
            self.clusters_of(entry, guest + (number << self._bits))
            for number, entry in enumerate(table[::step])
            if entry
        ]
        for first, count in held:
            self.refcounts.release(first, count)
        self.refcounts.release(offset >> self._bits)
        self.set_l1(l1_index, 0)

    def set_l1(self, l1_index: int, entry: int) -> None:
        """Change an entry of the active L1 table."""
        self.l1[l1_index] = entry
        self._dirty_l1.add(l1_index)

    def _check_table(self, l1_index: int, offset: int) -> None:
        cluster = offset >> self._bits
        if cluster in self._bad_tables or offset >= self.file.size:
            problem = "an L2 table overlaps other metadata, or lies outside the file"
            raise self._bad_l1(l1_index, problem, "a cluster of its own")
        self.refcounts.check_used(cluster)

    def _bad_l1(self, l1_index: int, problem: str, allowed: str) -> MappingError:
        return MappingError(
            problem,
            field=f"L1 entry {l1_index}",
            offset=self.header.l1_table_offset + l1_index * ENTRY_SIZE,
            found=f"{self.l1[l1_index]:#018x}",
            allowed=allowed,
            guest_offset=l1_index * self.header.l2_coverage,
        )

    # ------------------------------------------------------------------------- host clusters

    def check_place(self, host: int, guest: int, l2_entry: int) -> None:
        """Refuse, with MappingError, a host cluster that guest data must not be written to."""
        if self.data_file is not None:
            good = host == guest & -self.header.cluster_size
            allowed = "the guest offset itself: the data lies in an external file"
        else:
            good = host >> self._bits not in self.protected and (
                host < self.file.size or self.refcounts.get(host >> self._bits) > 0
            )
            allowed = "a cluster for guest data, and not one that holds metadata"
        if not good or host % self.header.cluster_size:
            raise MappingError(
                "L2 entry leads to where nothing may be written",
                field="L2 entry",
                offset=None,
                found=f"{l2_entry:#018x}",
                allowed=allowed,
                guest_offset=guest & -self.header.cluster_size,
            )

    def clusters_of(self, l2_entry: int, guest: int) -> tuple[int, int]:
        """The host clusters that an L2 entry refers to: first and count, both 0 for none.

        Checked: they can be released.  Raises MappingError, FormatError.
        """
        if l2_entry & FLAG_COMPRESSED:
            run = parse_compressed(l2_entry, self._bits)
            first = run.host_offset >> self._bits
            count = (run.host_offset + run.length - 1 >> self._bits) + 1 - first
        else:
            host = l2_entry & OFFSET_MASK
            if self.data_file is not None or not host:
                return 0, 0
            self.check_place(host, guest, l2_entry)
            first, count = host >> self._bits, 1
        self.refcounts.check_used(first, count)
        return first, count

    # ------------------------------------------------------------------------- to the disk

    @property
    def dirty(self) -> bool:
        """True where memory and file differ."""
        return bool(self._dirty_l1 or self.tables.dirty or self.refcounts.dirty)

    @property
    def heavy(self) -> bool:
        """True when so much is kept in memory that it should be committed."""
        limit = max(_DIRTY_BYTES_MAX, _DIRTY_CLUSTERS_MIN * self.header.cluster_size)
        return self.tables.dirty_bytes + self.refcounts.dirty_bytes > limit

    def barrier(self) -> None:
        """All that was written is on disk before what comes now."""
        if self.data_file is not None:
            self.data_file.flush()
        self.file.flush()

    def commit(self) -> None:
        """Write what is dirty, in order, and put it on the disk.  Raises TargetError.

        After an error it may be called again: what was not written is still dirty.
        """
        if not self.dirty:
            self.barrier()
            return
        features = self.header.incompatible_features
        if self._lazy and not features & INCOMPAT_DIRTY:
            self.switch(incompatible_features=features | INCOMPAT_DIRTY)
        if not self._lazy or self.refcounts.table_moved:
            self._write_refcounts()
        self.barrier()  # guest data too, which was written before
        self.tables.write_dirty()
        # Without a barrier: a new table is on disk since ``barrier``, as it was when it was made,
        # all zeros or the copy of a shared one, and that is what the guest sees through the old
        # L1 entry, too.
        self._write_l1()
        self.file.flush()
        self._settle()

    def close(self) -> None:
        """``commit``, and leave refcounts and dirty bit as they are to be in a closed image."""
        self.commit()
        if self._lazy and self.header.incompatible_features & INCOMPAT_DIRTY:
            self._write_refcounts()
            self.barrier()
            self.switch(incompatible_features=self.header.incompatible_features & ~INCOMPAT_DIRTY)

    def switch(self, **fields: int) -> None:
        """Change fields of the header with one write, and put it on the disk."""
        new = self.header._replace(**fields)
        write_header(self.file, new)
        self.header = new

    def _write_refcounts(self) -> None:
        refcounts = self.refcounts
        refcounts.write_blocks()
        if not refcounts.table_dirty:
            return
        self.file.flush()
        refcounts.write_table()
        if refcounts.table_moved:
            self.file.flush()
            self.switch(
                refcount_table_offset=refcounts.table_offset,
                refcount_table_clusters=refcounts.table_clusters,
            )
            refcounts.table_switched()

    def _write_l1(self) -> None:
        """Write the changed entries: neighbours with one write, which never crosses a sector."""
        per_sector = 512 // ENTRY_SIZE
        for sector in sorted({index // per_sector for index in self._dirty_l1}):
            first = sector * per_sector
            entries = self.l1[first : first + per_sector]
            self.file.pwrite(pack_table(entries), self.header.l1_table_offset + first * ENTRY_SIZE)
        self._dirty_l1.clear()

    def _settle(self) -> None:
        """Count down what was released: no reference to it is on disk any more."""
        if not self.refcounts.has_releases:
            return
        freed = self.refcounts.settle()
        self.protected.discard(freed)
        for cluster in freed:
            self.tables.drop(cluster << self._bits)
        if not self._lazy:
            self.refcounts.write_blocks()
