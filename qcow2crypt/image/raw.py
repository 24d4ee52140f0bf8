"""Raw images: the file is the guest disk.  Holes are found where the file system tells them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, HostOffset, ReadBuffer, align_up

if TYPE_CHECKING:
    from qcow2crypt.image.info import ImageInfo


class RawImage(Image):
    """A raw disk image, read-only.  A last part sector is filled up with zeros."""

    format = "raw"

    def __init__(self, file: HostFile) -> None:
        self._file = file
        super().__init__(align_up(file.size, SECTOR_SIZE))
        self.name = file.name

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """DATA where the file has data, UNALLOCATED where it has holes.  See ``Image.extents``."""
        position, end = self._clip(start, length)
        while position < end:
            data, data_end = self._next_data(position, end)
            if position < data:
                hole = data - position
                yield Extent(ExtentKind.UNALLOCATED, position, hole, HostOffset(position))
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

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_raw

        self._check_open()
        return describe_raw(self._file)

    def _read_into(self, view: memoryview, offset: GuestOffset) -> None:
        self._file.pread_into(view, offset)

    def close(self) -> None:
        """Close the file, if it was opened by path."""
        if not self.closed:
            self._file.close()
        super().close()


class RawWriter:
    """A new raw image: what is not written stays a hole."""

    def __init__(self, target: TargetFile, size: int) -> None:
        self._target = target
        self.size = align_up(size, SECTOR_SIZE)

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes."""
        self._target.pwrite(data, offset)

    def finish(self) -> None:
        """Give the file its full length."""
        self._target.truncate(self.size)
