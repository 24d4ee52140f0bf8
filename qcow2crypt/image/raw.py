"""Raw images: the file is the guest disk.  Holes are found where the file system tells them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qcow2crypt.errors import ArgumentError, ReadOnlyError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile, Lent
from qcow2crypt.image.layers import Ranges
from qcow2crypt.image.placed import Placed, Run
from qcow2crypt.image.probe import probe_bytes
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, HostOffset, ReadBuffer, align_up

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from qcow2crypt.image.info import ImageInfo
    from qcow2crypt.output import Output


_PIECE = 1 << 20


class RawImage(Image):
    """A raw disk image.  A last part sector is filled up with zeros.

    It can be written where its file can.  ``probed`` tells that nobody said it is raw: then, as
    in QEMU, its first sector may not be made to look like another format, or the next program
    would follow whatever the guest wrote there.
    """

    format = "raw"

    def __init__(self, file: HostFile, *, probed: bool = False) -> None:
        self._file = file
        self._probed = probed
        super().__init__(align_up(file.size, SECTOR_SIZE))
        self.name = file.name

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """DATA where the file has data, ZERO where it has holes.  See ``Image.extents``."""
        position, end = self._clip(start, length)
        while position < end:
            data, data_end = self._next_data(position, end)
            if position < data:
                hole = data - position
                yield Extent(ExtentKind.ZERO, position, hole, HostOffset(position))
            if data < data_end:
                yield Extent(ExtentKind.DATA, GuestOffset(data), data_end - data, HostOffset(data))
            position = GuestOffset(data_end)

    def _next_data(self, position: int, end: int) -> tuple[int, int]:
        """The next range of data, as sectors, inside ``position`` to ``end``; may be empty."""
        fd = self._file.fd
        if fd is None or not hasattr(os, "SEEK_DATA"):
            return position, end
        try:
            data = os.lseek(fd, position, os.SEEK_DATA)
            hole = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as error:
            # ENXIO: nothing but a hole up to the end.  Else the file system cannot tell.
            return (end, end) if error.errno == errno.ENXIO else (position, end)
        first = max(position, data - data % SECTOR_SIZE)
        return min(first, end), min(align_up(hole, SECTOR_SIZE), end)

    def host_files(self) -> tuple[HostFile, ...]:
        """See ``Image.host_files``."""
        return (self._file,)

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_raw

        self._check_open()
        return describe_raw(self._file)

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        self._file.pread_into(view, offset)
        return ()

    # Writes.

    def writable(self) -> bool:
        """See ``Image.writable``."""
        self._check_open()
        return self._file.writable

    def pwrite(self, data: ReadableBuffer, offset: int) -> int:
        """See ``Image.pwrite``."""
        view = memoryview(data).cast("B")
        self._check_write(offset, view.nbytes)
        if self._probed and offset < SECTOR_SIZE and view.nbytes:
            self._check_still_raw(view, offset)
        if view.nbytes:
            self._file.pwrite(view, offset)
        return view.nbytes

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """See ``Image.write_zeroes``; with ``unmap`` the file gets a hole if it can have one."""
        self._check_write(offset, length)
        if unmap and self._file.punch_hole(offset, length):
            return
        zeros = bytes(min(length, _PIECE))
        for start in range(offset, offset + length, _PIECE):
            self._file.pwrite(zeros[: offset + length - start], start)

    def discard(self, offset: int, length: int) -> None:
        """See ``Image.discard``.  Where the file cannot have holes, nothing changes."""
        self._check_write(offset, length)
        self._file.punch_hole(offset, length)

    def truncate(self, size: int | None = None, /) -> int:
        """See ``Image.truncate``.  The size is rounded up to a whole sector."""
        if not self.writable():
            raise self._read_only()
        wanted = self.tell() if size is None else size
        if wanted < 0:
            raise ArgumentError(f"a disk cannot have {wanted} bytes")
        self._file.truncate(align_up(wanted, SECTOR_SIZE))
        self._size = align_up(wanted, SECTOR_SIZE)
        return self._size

    def flush(self) -> None:
        """See ``Image.flush``."""
        if not self.closed and self._file.writable:
            self._file.flush()

    def _check_write(self, offset: int, length: int) -> None:
        if not self.writable():
            raise self._read_only()
        if length < 0:
            raise ArgumentError(f"length {length} is negative")
        self._clip(offset, length)

    def _check_still_raw(self, view: memoryview, offset: int) -> None:
        sector = bytearray(self._file.pread(SECTOR_SIZE, 0))
        part = view[: SECTOR_SIZE - offset]
        sector[offset : offset + part.nbytes] = part
        found = probe_bytes(bytes(sector))
        if found != "raw":
            raise ReadOnlyError(
                f"'{self.name}' would look like a {found} image after this write; "
                "open it with format='raw' (-f raw) to allow it"
            )

    def _close_own(self) -> None:
        try:
            super()._close_own()  # flushes
        finally:
            self._file.close()


def raw_from_descriptor(number: int, name: str) -> RawImage:
    """A raw disk in a file or a device that is open for reading, and stays open.  It is locked.

    Raises SourceError, ImageLockedError.
    """
    file = HostFile(Lent(number, name))
    try:
        file.lock(writing=False)
    except BaseException:
        file.close()
        raise
    return RawImage(file)


class RawWriter:
    """A new raw image: what is not written stays a hole, or becomes zeros on a device."""

    at_guest_offsets = True

    def __init__(self, target: Output, size: int) -> None:
        self._target = target
        self._end = 0
        self.size = align_up(size, SECTOR_SIZE)
        target.need(self.size)

    def grow(self, size: int) -> None:
        """The disk has at least ``size`` bytes."""
        self.size = max(self.size, align_up(size, SECTOR_SIZE))

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes, behind all that was written before."""
        self._clear(offset, memoryview(data).nbytes)
        self._target.pwrite(data, offset)

    def place(self, runs: Sequence[Run]) -> Placed:
        """Every byte has its place already."""
        placed = Placed([], [], [])
        for offset, at, length in runs:
            if offset != self._end:
                self._clear(offset, 0)
            self._end = offset + length
            placed.add_part(offset, at, length)
        return placed

    def put(self, placed: Placed, buffer: memoryview) -> None:
        """Store runs from ``buffer``.  Threads may do this side by side."""
        for offset, at, length in placed.parts:
            self._target.pwrite(buffer[at : at + length], offset)

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Leave a hole."""

    def _clear(self, offset: int, length: int) -> None:
        """What lies between two writes shall be zeros: a device has something there."""
        self._target.clear(self._end, offset - self._end)
        self._end = offset + length

    def finish(self) -> None:
        """Give the file its full length."""
        self._clear(self.size, 0)
        self._target.truncate(self.size)
