"""The guest disk of a qcow2 image, to be read and written at any place.

Joins the parts: ``cow`` puts bytes, ``zeroing`` takes them away, ``metadata`` brings both to the
disk in an order that no crash can harm, ``resizing`` changes the disk's size.  This file checks
arguments, holds the lock, and widens what is not whole sectors.

What is written is on the disk after ``flush`` or ``close``.  A program that dies before leaves
each sector with its old or its new content, and the image consistent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from qcow2crypt.errors import (
    ArgumentError,
    FormatError,
    ReadOnlyError,
    TargetError,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.layers import Ranges, fill_from
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.edit.bitmapsizes import DirtyBitmaps
from qcow2crypt.image.qcow2.edit.cow import ClusterWriter
from qcow2crypt.image.qcow2.edit.cow_extended import SubclusterWriter
from qcow2crypt.image.qcow2.edit.editable import editable
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.edit.resizing import Resizer
from qcow2crypt.image.qcow2.edit.zeroing import ClusterEraser, Removal
from qcow2crypt.image.qcow2.edit.zeroranges import RangeZeroer
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.readwritelock import ReadWriteLock
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down, align_up

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


AUTOCLEAR_KNOWN = hdr.AUTOCLEAR_BITMAPS | hdr.AUTOCLEAR_RAW_DATA_FILE


class GuestEditor(Qcow2Image):
    """The active guest disk of a qcow2 image, writable.  Else as ``Qcow2Image``.

    ``file`` is open for writing, and so is ``data_file``; ``backing`` is only read.  An image with
    the dirty bit set, whose refcounts may be wrong, is repaired first.

    Thread-safe: a write excludes reads and other writes, so a read sees all of it or nothing.
    Raises ReadOnlyError for an image that is marked as corrupt, and for one that is dirty and
    cannot be repaired.  A write that finds damage raises MappingError or FormatError, marks
    the image as corrupt where its version can say that, and refuses further writes.
    """

    _meta: Metadata | None = None
    _bitmaps: DirtyBitmaps | None = None
    _damaged = False
    _read_error: FormatError | None = None

    def _accept(self, file: HostFile, structure: Structure | None) -> Structure:
        self._lock = ReadWriteLock()
        return editable(file, structure)

    # ------------------------------------------------------------------------- reading

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        with self._lock.reading:
            return super()._read_own(view, offset)

    def _old_view(self, view: memoryview, offset: int) -> None:
        """What the guest sees now, for a writer, which holds the lock; zeros past the end."""
        inside = max(0, min(view.nbytes, self._size - offset))
        try:
            if inside:
                missing = super()._read_own(view[:inside], GuestOffset(offset))
                fill_from(self.backing, view, offset, missing)
        except FormatError as error:
            self._read_error = error
            raise
        if inside < view.nbytes:
            view[inside:] = bytes(view.nbytes - inside)

    # ------------------------------------------------------------------------- writing

    def writable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def pwrite(self, data: ReadableBuffer, offset: int) -> int:
        """Write all of ``data`` at a guest offset; returns its length.  Any alignment.

        Raises ArgumentError for a range outside the disk, ReadOnlyError for a damaged image,
        TargetError when the operating system refuses; MappingError, FormatError for damage.
        """
        try:
            view = memoryview(data).cast("B")
        except TypeError as error:
            raise ArgumentError(f"cannot write this {type(data).__name__}: {error}") from None
        with self._lock.writing:
            self._check_range(offset, view.nbytes)
            if view.nbytes:
                self._change(lambda: self._write(view, offset), offset, view.nbytes)
        return view.nbytes

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Make a guest range read as zeros.  Errors as ``pwrite``.

        Whole clusters, or subclusters, get the zero flag; they keep their host clusters for
        later, or let go of them with ``unmap``.  Where there can be no flag (version 2 with a
        backing file) and at ragged ends, zeros are written as data.
        """
        how = Removal.UNMAP if unmap else Removal.ZERO
        with self._lock.writing:
            self._check_range(offset, length)
            if length:
                self._change(
                    lambda: self._zeroer.zero(offset, offset + length, how), offset, length
                )

    def discard(self, offset: int, length: int) -> None:
        """The guest needs a range no more.  Errors as ``pwrite``.

        Whole clusters in it let go of their host clusters and read as zeros (with version 2 and a
        backing file: zeros are written).  The ragged ends stay as they are.
        """
        with self._lock.writing:
            self._check_range(offset, length)
            size = self._structure.header.cluster_size
            first, end = align_up(offset, size), offset + length
            last = align_up(end, size) if end == self._size else align_down(end, size)
            if first < min(last, end):
                last = min(last, end)
                self._change(
                    lambda: self._zeroer.zero(first, last, Removal.DISCARD), offset, length
                )

    def flush(self) -> None:
        """Put all that was written on the disk.  Raises TargetError."""
        if self.closed or self._meta is None:
            return
        with self._lock.writing:
            if self._meta is not None:
                self._meta.commit()

    def truncate(self, size: int | None = None, /) -> int:
        """Give the guest disk another size, a multiple of 512; None: up to the cursor.

        What the disk grows by reads as zeros, whatever stood there before.  What it shrinks by is
        gone at once.  Returns the new size.

        Raises ArgumentError for a size that cannot be, UnsupportedFeatureError for version 2
        with snapshots; else as ``pwrite``.
        """
        self._check_open()
        new = self.tell() if size is None else size
        if new < 0 or new % SECTOR_SIZE:
            raise ArgumentError(f"a disk has a multiple of {SECTOR_SIZE} bytes, not {new}")
        with self._lock.writing:
            self._change(lambda: self._resize(new))
        return new

    def _close_own(self) -> None:
        # It is closed even if what is left cannot be written.
        try:
            if self._complete:
                with self._lock.writing:
                    self._finish()
        finally:
            self._meta = None
            super()._close_own()

    # ------------------------------------------------------------------------- inside the lock

    def _check_range(self, offset: int, length: int) -> None:
        self._check_open()
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ArgumentError(
                f"guest range {offset:#x} to {offset + length:#x} is not inside the disk of "
                f"{self._size} bytes"
            )

    def _finish(self) -> None:
        """Put all on the disk, and leave the file as that of a closed image is to be."""
        if self._meta is None:
            return
        try:
            # Bitmaps of a damaged image stay in use.
            if self._bitmaps is not None and not self._damaged:
                self._bitmaps.store()
        finally:
            self._meta.close()
        self._meta = self._bitmaps = None

    def _change(self, operation: Callable[[], None], start: int = 0, length: int = 0) -> None:
        """Do one change, to what the guest sees in a range; mark the image when it meets damage."""
        self._check_open()
        self._refuse_damaged()
        if self._meta is None:
            self._begin()
        try:
            if length and self._bitmaps is not None:
                self._bitmaps.note(start, start + length)
            operation()
        except FormatError as error:
            # What cannot be read need not be the fault of this file's tables.
            if error is not self._read_error:
                self._mark_corrupt()
            raise
        finally:
            self._note_header()

    def _refuse_damaged(self) -> None:
        if self._damaged:
            raise ReadOnlyError(f"'{self.name}' is damaged: run check on it before writing to it")

    def _begin(self) -> None:
        """Get ready for the first change."""
        structure = self._structure
        header = structure.header
        external = None if self.data_file is self._file else self.data_file
        meta = Metadata(self._file, header, self._l1, self._tables, external)
        if structure.bitmaps is not None:
            self._bitmaps = DirtyBitmaps(meta, structure.bitmaps, self._size)
        if header.autoclear_features & ~AUTOCLEAR_KNOWN:
            # As the format asks of a program that does not know what they say.
            meta.switch(autoclear_features=header.autoclear_features & AUTOCLEAR_KNOWN)
        kind = SubclusterWriter if header.extended_l2 else ClusterWriter
        cipher = self._sectors.cipher
        self._writer = kind(meta, cipher, self._old_view)
        has_backing = structure.backing_file is not None
        self._zeroer = RangeZeroer(self, ClusterEraser(meta, has_backing=has_backing), self._write)
        if header.autoclear_features & hdr.AUTOCLEAR_RAW_DATA_FILE and cipher is None:
            self._zeroer.raw_data_file = external
        self._meta = meta

    def _note_header(self) -> None:
        meta = self._meta
        if meta is not None and meta.header is not self._structure.header:
            self._structure = self._structure._replace(header=meta.header)
            self._map.l1_offset = meta.header.l1_table_offset

    def _mark_corrupt(self) -> None:
        self._damaged = True
        meta = self._meta
        if meta is None or meta.header.version < 3:
            return
        features = meta.header.incompatible_features
        with contextlib.suppress(TargetError):  # the damage is what there is to tell
            meta.switch(incompatible_features=features | hdr.INCOMPAT_CORRUPT)

    def _write(self, view: memoryview, offset: int) -> None:
        end = offset + view.nbytes
        if not self.encrypted or not (offset | end) % SECTOR_SIZE:
            self._writer.write(view, offset)
            return
        # A sector is encrypted as a whole, so the rest of it is read first.
        start, stop = align_down(offset, SECTOR_SIZE), align_up(end, SECTOR_SIZE)
        wide = memoryview(bytearray(stop - start))
        self._old_view(wide[:SECTOR_SIZE], start)
        if stop - SECTOR_SIZE > start:
            self._old_view(wide[-SECTOR_SIZE:], stop - SECTOR_SIZE)
        wide[offset - start : end - start] = view
        self._writer.write(wide, start)

    def _resize(self, new: int) -> None:
        meta = self._meta
        assert meta is not None  # noqa: S101 - _change has seen to it; this is for mypy
        resizer = Resizer(meta, self._zeroer, self.backing)
        resizer.check(new)
        if new == self._size:
            return
        if self._bitmaps is not None:
            self._bitmaps.mark(disabled_too=True)
        if new > self._size:
            resizer.grow(self._map, self._size, new)
            self._size = new
        else:
            resizer.cut(new)
            self._size = new
            resizer.shrink(self._map, new)
        if self._bitmaps is not None:
            self._bitmaps.resize(new)
