"""Dirty bitmaps when the disk gets another size.

A table that has to be longer moves to new clusters, a shorter one gives its last ones back.  All
of it happens while the bitmaps are *in use* in the file, so no program believes what is half done.

Knows tables and sizes; no guest bytes, no keys.  Source: the qcow2 document, "Bitmaps".
"""

from __future__ import annotations

from dataclasses import replace

from qcow2crypt.image.qcow2.bitmapentries import (
    ALL_ONES,
    TABLE_ENTRIES_OFFSET,
    bit_count,
    table_length,
)
from qcow2crypt.image.qcow2.edit.dirtybitmaps import (
    BitmapRecorder,
    KeptBitmap,
    UnusableBitmapError,
)
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE
from qcow2crypt.units import div_up

_COPY_STEP = 1 << 16


class DirtyBitmaps(BitmapRecorder):
    """The bitmaps of one image open for writing, whose disk may get another size."""

    def resize(self, size: int) -> None:
        """The disk has another size, and all bitmaps are marked: give them bits for it.

        What it grew by does not count as written.  Raises as ``note``; the bitmaps then stay in
        use.
        """
        self._write_out()
        self._size = size
        for kept in self._usable():
            with self._all_or_none(), self._giving_up(kept):
                if size > kept.size:
                    self._grow(kept, size)
                else:
                    self._shrink(kept, size)
                kept.size = size
                kept.last = (0, -1)

    def _shrink(self, kept: KeptBitmap, size: int) -> None:
        needed = self._needed(kept, size)
        if needed == kept.entries:
            return
        gone = [self._entry(kept, index) for index in range(needed, kept.entries)]
        self._set_entries(kept, needed)
        for entry in gone:
            if entry > ALL_ONES:
                self._meta.refcounts.release(entry // self._cluster_size)
        first, last = (
            kept.table_offset // self._cluster_size
            + div_up(entries * ENTRY_SIZE, self._cluster_size)
            for entries in (needed, kept.entries)
        )
        self._meta.refcounts.release(first, last - first)
        kept.entries = needed

    def _needed(self, kept: KeptBitmap, size: int) -> int:
        """Entries of the table for a disk of ``size`` bytes."""
        return table_length(size, kept.row.granularity_bits, self._cluster_size)

    def _set_entries(self, kept: KeptBitmap, entries: int) -> None:
        self._file.pwrite(entries.to_bytes(4, "big"), kept.row.at + TABLE_ENTRIES_OFFSET)
        self._file.flush()

    def _grow(self, kept: KeptBitmap, size: int) -> None:
        needed = self._needed(kept, size)
        if replace(kept.row, table_entries=needed).fault(size, self._cluster_size):
            raise UnusableBitmapError  # QEMU would refuse it
        self._clear_tail(kept)
        if needed == kept.entries:
            return
        old, new = (
            div_up(entries * ENTRY_SIZE, self._cluster_size) for entries in (kept.entries, needed)
        )
        if new > old:
            self._move_table(kept, old, new)
        else:
            zeros = bytes((needed - kept.entries) * ENTRY_SIZE)
            self._file.pwrite(zeros, kept.table_offset + kept.entries * ENTRY_SIZE)
            self._file.flush()
        self._set_entries(kept, needed)
        kept.entries = needed

    def _move_table(self, kept: KeptBitmap, old: int, new: int) -> None:
        """The table to new clusters, more of them, with zeros behind its entries."""
        size, length = self._cluster_size, kept.entries * ENTRY_SIZE
        first = self._meta.refcounts.allocate(new)
        for at in range(0, length, _COPY_STEP):
            part = self._file.pread(min(_COPY_STEP, length - at), kept.table_offset + at)
            self._file.pwrite(part, first * size + at)
        self._file.pwrite(bytes(new * size - length), first * size + length)
        self._meta.commit()
        self._file.pwrite((first * size).to_bytes(8, "big"), kept.row.at)
        self._file.flush()
        self._meta.refcounts.release(kept.table_offset // size, old)
        kept.table_offset = first * size

    def _clear_tail(self, kept: KeptBitmap) -> None:
        """No bit behind the end of the disk is set in the last cluster."""
        used = bit_count(kept.size, kept.row.granularity_bits)
        index, bits = divmod(used, self._cluster_size * 8)
        if not bits:
            return
        entry = self._entry(kept, index)
        if not entry:
            return
        host = entry if entry > ALL_ONES else self._new_cluster(b"\xff")
        byte, bit = divmod(bits, 8)
        kept_bits = self._file.pread(1, host + byte)[0] & (1 << bit) - 1
        tail = bytes([kept_bits]).ljust(self._cluster_size - byte, b"\0")
        self._file.pwrite(tail, host + byte)
        if entry == ALL_ONES:
            self._meta.commit()
            place = kept.table_offset + index * ENTRY_SIZE
            self._file.pwrite(host.to_bytes(ENTRY_SIZE, "big"), place)
            self._file.flush()
