"""A qcow2 image that can be changed in every way: guest bytes, snapshots, backing file, places.

``editor_guest`` writes guest bytes.  Here is what concerns the image as a whole; most of it is
done by others to a file at rest (``snapshotting``, ``headercluster``) and read anew afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import Image
from qcow2crypt.image.qcow2.bulk.headercluster import write_backing
from qcow2crypt.image.qcow2.bulk.snapshotting import (
    apply_snapshot,
    create_snapshot,
    delete_snapshot,
)
from qcow2crypt.image.qcow2.bulk.switch import write_header
from qcow2crypt.image.qcow2.edit.bitmapadding import add_bitmaps
from qcow2crypt.image.qcow2.edit.compressing import CompressedClusterWriter
from qcow2crypt.image.qcow2.edit.guest import AUTOCLEAR_KNOWN, GuestEditor
from qcow2crypt.image.qcow2.edit.reserving import ClusterReserver
from qcow2crypt.image.qcow2.edit.zeroing import Removal
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.image.qcow2.tables import read_l1
from qcow2crypt.units import SECTOR_SIZE, align_down, align_up

if TYPE_CHECKING:
    from qcow2crypt.image.info import Snapshot
    from qcow2crypt.image.qcow2.bitmaps import StoredBitmap

_Result = TypeVar("_Result")


class Qcow2Editor(GuestEditor):
    """The active guest disk of a qcow2 image, writable, and all that can be done to the image."""

    _compressing: CompressedClusterWriter | None = None

    def preallocate(self, start: int, length: int, *, data: bool = False) -> None:
        """Give a guest range that reads as zeros its place in the file.  Errors as ``pwrite``.

        With ``data`` zeros are written.  Without, whole clusters get a place and the zero flag;
        version 2 has none, so zeros are written there, too.
        """
        self._check_range(start, length)
        header = self._structure.header
        first, end = align_up(start, header.cluster_size), start + length
        if length and (data or header.version < 3):
            with self._lock.writing:
                self._change(lambda: self._zeroer.write_zeros(start, end))
        elif first < end:
            last = align_up(end, header.cluster_size) if end == self._size else end
            last = align_down(last, header.cluster_size)
            with self._lock.writing:
                self._change(lambda: self._reserve(first, last))

    def _reserve(self, first: int, last: int) -> None:
        meta = self._meta
        assert meta is not None  # noqa: S101 - _change has seen to it; this is for mypy
        ClusterReserver(meta).reserve(first, last)

    def create_snapshot(self, name: str) -> Snapshot:
        """See ``Image.create_snapshot``."""
        return self.at_rest(lambda: create_snapshot(self._file, self._structure, name))

    def apply_snapshot(self, id_or_name: str) -> Snapshot:
        """See ``Image.apply_snapshot``."""
        return self.at_rest(lambda: apply_snapshot(self._file, self._structure, id_or_name))

    def delete_snapshot(self, id_or_name: str) -> Snapshot:
        """See ``Image.delete_snapshot``."""
        return self.at_rest(lambda: delete_snapshot(self._file, self._structure, id_or_name))

    def add_bitmaps(self, bitmaps: Sequence[StoredBitmap]) -> None:
        """Copy bitmaps of another image, whose disk has the same size.

        Raises ArgumentError for a name that is there already; else as ``pwrite``.
        """
        self.at_rest(lambda: add_bitmaps(self._file, self._structure, bitmaps))

    def write_compressed(self, stored: bytes, offset: int) -> None:
        """Give the guest cluster at ``offset`` its content in compressed form, less than a cluster.

        Raises ArgumentError where that cannot be: encrypted, or with a data file; else as
        ``pwrite``.
        """
        size = self._structure.header.cluster_size
        if self.encrypted or self.data_file is not self._file:
            raise ArgumentError("an image with encryption or a data file cannot be compressed into")
        if offset % size or not 0 < len(stored) < size:
            raise ArgumentError(f"a compressed cluster is a whole one, and less than {size} bytes")
        with self._lock.writing:
            self._check_range(offset, SECTOR_SIZE)
            length = min(size, self._size - offset)
            self._change(lambda: self._write_compressed(stored, offset), offset, length)

    def _write_compressed(self, stored: bytes, offset: int) -> None:
        meta = self._meta
        assert meta is not None  # noqa: S101 - _change has seen to it; this is for mypy
        if self._compressing is None or self._compressing.metadata is not meta:
            self._compressing = CompressedClusterWriter(meta)
        self._decompressed.forget(self._compressing.write(stored, offset))

    def make_empty(self) -> None:
        """Let go of all clusters: the disk shows its backing file.  Errors as ``pwrite``."""
        end = align_up(self._size, self._structure.header.cluster_size)
        with self._lock.writing:
            self._change(lambda: self._zeroer.eraser.clusters(0, end, Removal.FORGET))

    def drop_zero_flags(self, start: int, length: int) -> None:
        """Let clusters that read as zeros do so without the zero flag.  Errors as ``pwrite``."""
        self._check_range(start, length)
        end = start + length
        last = align_up(end, self._structure.header.cluster_size)
        with self._lock.writing:
            if self.backing is None:
                self._change(lambda: self._zeroer.eraser.clusters(start, last, Removal.FORGET))
            else:
                self._change(lambda: self._zeroer.write_zeros(start, end))

    def forget_behind_end(self) -> None:
        """Let go of clusters behind the end of the disk.  Errors as ``pwrite``."""
        header = self._structure.header
        end = align_up(self._size, header.cluster_size)
        last = header.l1_size * header.l2_coverage
        with self._lock.writing:
            self._change(lambda: self._zeroer.eraser.clusters(end, last, Removal.FORGET))

    def rebase(self, backing: Image | None, name: str | None, image_format: str | None) -> None:
        """Put another image under this one, which takes it over; the old one is closed.

        Only the names in the header change.  Errors as ``pwrite``, and ArgumentError.
        """
        self.at_rest(lambda: write_backing(self._file, self._structure, name, image_format))
        old, self.backing = self.backing, backing
        if old is not None:
            old.close()

    def at_rest(self, operation: Callable[[], _Result]) -> _Result:
        """Do what changes the file past this object: nothing waits in memory before, and
        everything is read anew behind it.
        """
        self._check_open()
        with self._lock.writing:
            self._refuse_damaged()
            self._finish()
            header = self._structure.header
            if header.autoclear_features & ~AUTOCLEAR_KNOWN:
                known = header.autoclear_features & AUTOCLEAR_KNOWN
                write_header(self._file, header._replace(autoclear_features=known))
                self._structure = read_structure(self._file)
            try:
                return operation()
            finally:
                self._reload()

    def _reload(self) -> None:
        self._structure = read_structure(self._file)
        header = self._structure.header
        self._size = header.guest_size
        self._tables.clear()
        self._decompressed.clear()
        self._l1 = read_l1(self._file, header.l1_table_offset, header.l1_size)
        self._map = ClusterMap(self._file, header, self._l1, self._tables)
