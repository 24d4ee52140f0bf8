"""Another size for the guest disk.

Growing: what the disk grows by must read as zeros, so old bytes behind its end are removed while
they are still behind it; then a larger L1 table, if one is needed, and last the new size.
Shrinking: first the new size, then what is behind it is let go.  Each is one header write, so a
crash leaves the old or the new size.

Knows tables, sizes and the header; no guest bytes, no keys.
"""

from __future__ import annotations

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.base import ExtentKind, Image
from qcow2crypt.image.qcow2.check.census import Census
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.edit.zeroing import Removal
from qcow2crypt.image.qcow2.edit.zeroranges import RangeZeroer
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.header import L1_BYTES_MAX
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.image.qcow2.tables import pack_table
from qcow2crypt.units import align_up, div_up


class Resizer:
    """One change of size.  ``zeroer`` is that of the image; ``backing`` what is under it."""

    def __init__(
        self,
        metadata: Metadata,
        zeroer: RangeZeroer,
        backing: Image | None,
    ) -> None:
        self._meta = metadata
        self._eraser = zeroer.eraser
        self._write_zeros = zeroer.write_zeros
        self._backing_size = 0 if backing is None else backing.size
        self._cluster_size = metadata.header.cluster_size

    def check(self, new: int) -> None:
        """Refuse a size that cannot be: ArgumentError, UnsupportedFeatureError."""
        header = self._meta.header
        if header.version < 3 and header.nb_snapshots:
            raise UnsupportedFeatureError(
                "another size for a version 2 image that has snapshots",
                "make it version 3 with 'amend -o compat=1.1', or delete the snapshots",
            )
        most = L1_BYTES_MAX // ENTRY_SIZE * header.l2_coverage
        if new > most:
            raise ArgumentError(
                f"a disk of {new} bytes is too large for clusters of {self._cluster_size} bytes: "
                f"the limit is {most}; convert it to larger clusters"
            )

    # ------------------------------------------------------------------------- growing

    def grow(self, mapping: ClusterMap, old: int, new: int) -> None:
        """From ``old`` to ``new`` bytes."""
        meta = self._meta
        self._grow_l1(div_up(new, meta.header.l2_coverage))
        first = align_up(old, self._cluster_size)
        self._clear_tail(mapping, old, min(first, new))
        last = align_up(new, self._cluster_size)
        self._eraser.clusters(first, last, Removal.FORGET)
        # What the backing file has there must not come into view.
        shown = min(last, align_up(self._backing_size, self._cluster_size))
        if first < shown:
            if self._eraser.can_zero:
                self._eraser.clusters(first, shown, Removal.ZERO)
            else:
                self._write_zeros(first, min(shown, new))
        meta.commit()
        if meta.data_file is not None and meta.data_file.size < new:
            meta.data_file.truncate(new)
        meta.switch(size=new)

    def _clear_tail(self, mapping: ClusterMap, old: int, end: int) -> None:
        """Zeros from the end of the disk to the end of its last cluster."""
        position = old
        while position < end:
            run = mapping.run_at(position, end)
            shows = run.kind in (ExtentKind.DATA, ExtentKind.COMPRESSED) or (
                run.kind is ExtentKind.UNALLOCATED and self._backing_size > position
            )
            if shows:
                self._write_zeros(position, run.stop)
            position = run.stop

    def _grow_l1(self, entries: int) -> None:
        """A larger L1 table in new clusters, which one header write makes the true one."""
        meta = self._meta
        header = meta.header
        if entries <= header.l1_size:
            return
        old_offset, old_entries = header.l1_table_offset, header.l1_size
        count = div_up(entries * ENTRY_SIZE, self._cluster_size)
        first = meta.refcounts.allocate(count)
        table = meta.l1[:]
        table.extend([0] * (count * self._cluster_size // ENTRY_SIZE - len(table)))
        try:
            meta.file.pwrite(pack_table(table), first * self._cluster_size)
            meta.commit()  # which may write entries, to the old table: the new one has them, too
        except BaseException:
            meta.refcounts.give_back(first, count)
            raise
        meta.protected.add_range(first, count)
        meta.switch(l1_table_offset=first * self._cluster_size, l1_size=entries)
        meta.l1.extend([0] * (entries - len(meta.l1)))
        old = old_offset // self._cluster_size, div_up(old_entries * ENTRY_SIZE, self._cluster_size)
        meta.protected.remove_range(*old)
        meta.refcounts.release(*old)

    # ------------------------------------------------------------------------- shrinking

    def cut(self, new: int) -> None:
        """The disk ends at ``new`` from now on."""
        self._meta.commit()
        self._meta.refcounts.refuse_to_cut()
        self._meta.switch(size=new)

    def shrink(self, mapping: ClusterMap, new: int) -> None:
        """Let go of all that is behind the end of the disk."""
        meta = self._meta
        header = meta.header
        end = align_up(new, self._cluster_size)
        position = new
        while position < end:
            run = mapping.run_at(position, end)
            if run.kind is ExtentKind.DATA:
                self._write_zeros(position, run.stop)
            position = run.stop
        needed = div_up(new, header.l2_coverage)
        self._eraser.clusters(end, needed * header.l2_coverage, Removal.FORGET)
        for l1_index in range(needed, len(meta.l1)):
            if meta.l1[l1_index] & OFFSET_MASK:
                meta.drop_table(l1_index)
        meta.commit()
        if meta.data_file is not None:
            meta.data_file.truncate(new)
        used = meta.refcounts.end()
        if used * self._cluster_size < meta.file.size:
            self._cut_file(used)

    def _cut_file(self, used: int) -> None:
        """Cut the file behind the last cluster that is counted, or that is in use all the same.

        In a sound file these are one.  In a damaged one, data may be counted as free.
        """
        file = self._meta.file
        census = Census(file, read_structure(file), Findings(lambda _finding: None))
        census.take()
        end = max(used, census.counts.end) * self._cluster_size
        if census.fatal is None and end < file.size:
            file.truncate(end)
            file.flush()
