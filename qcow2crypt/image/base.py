"""What every image is: a guest disk to read, whatever its format.

Knows guest offsets; knows nothing of tables, keys or files.  A format fills in ``_read_into``
and ``extents``; this file makes a Python file object and positional reads of them.
"""

from __future__ import annotations

import enum
import io
import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import GuestOffset, HostOffset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from qcow2crypt.image.info import ImageInfo

_READALL_STEP = 1 << 20


class ExtentKind(enum.Enum):
    """How a range of the guest disk is stored."""

    DATA = "data"
    """Stored as it is, or encrypted where the image is encrypted."""
    ZERO = "zero"
    """Reads as zeros: marked so in the tables, nothing is read or decrypted."""
    UNALLOCATED = "unallocated"
    """Not stored: reads as zeros (an image with a backing file is not read yet)."""
    COMPRESSED = "compressed"
    """One compressed cluster.  Stored in clear, in encrypted images too."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` guest bytes from ``guest_offset`` on, stored in one way.

    ``host_offset`` is where the first of them lies in the file: for DATA always, for ZERO where
    a host cluster is kept for it, for COMPRESSED the first compressed byte, for UNALLOCATED in a
    raw image the hole; else None.
    """

    kind: ExtentKind
    guest_offset: GuestOffset
    length: int
    host_offset: HostOffset | None = None

    @property
    def reads_as_zero(self) -> bool:
        """True where the guest sees zeros without a byte being read."""
        return self.kind in (ExtentKind.ZERO, ExtentKind.UNALLOCATED)


class Image(io.RawIOBase):
    """A guest disk, read-only.  An ``io.RawIOBase`` with positional reads beside the cursor.

    ``pread`` and ``preadinto`` use no cursor and may be called from many threads at once;
    ``read``, ``readinto``, ``seek`` and ``tell`` share one cursor under a lock.
    """

    format: str
    """The name of the format in qemu-img's words: ``qcow2`` or ``raw``."""
    name: str
    """The file name, or a word for a file object."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0
        self._cursor_lock = threading.Lock()

    # What a format fills in.

    @abstractmethod
    def _read_into(self, view: memoryview, offset: GuestOffset) -> None:
        """Fill ``view`` with guest bytes; the range lies inside the disk."""

    @abstractmethod
    def extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The extents of a guest range in guest order, without gaps, clipped to the range.

        ``start`` and ``length`` are bytes; ``length`` None means up to the end of the disk.
        Raises ArgumentError for a range outside the disk, MappingError for a damaged table.
        """

    @abstractmethod
    def info(self) -> ImageInfo:
        """Describe the image.  Needs no passphrase."""

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file under the image; None when it is a file object."""
        return None

    # The guest disk.

    @property
    def size(self) -> int:
        """Size of the guest disk in bytes, a multiple of 512."""
        return self._size

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """Read guest bytes at ``offset`` into ``buffer``; returns how many (short at the end).

        Thread-safe.  Raises ArgumentError, MappingError, CompressedDataError, SourceError.
        """
        self._check_open()
        if offset < 0:
            raise ArgumentError(f"guest offset {offset} is negative")
        try:
            view = memoryview(buffer).cast("B")
        except TypeError as error:
            raise ArgumentError(f"cannot read into this {type(buffer).__name__}: {error}") from None
        if view.readonly:
            raise ArgumentError("the buffer is read-only")
        count = max(0, min(view.nbytes, self._size - offset))
        if count:
            self._read_into(view[:count], GuestOffset(offset))
        return count

    def pread(self, length: int, offset: int) -> bytes:
        """``length`` guest bytes at ``offset``; fewer at the end of the disk.  Thread-safe."""
        if length < 0:
            raise ArgumentError(f"length {length} is negative")
        if offset < 0:
            raise ArgumentError(f"guest offset {offset} is negative")
        buffer = bytearray(max(0, min(length, self._size - offset)))
        self.preadinto(buffer, offset)
        return bytes(buffer)

    def _clip(self, start: int, length: int | None) -> tuple[GuestOffset, GuestOffset]:
        self._check_open()
        end = self._size if length is None else start + length
        if not 0 <= start <= end <= self._size:
            raise ArgumentError(
                f"guest range {start:#x} to {end:#x} is not inside the disk of {self._size} bytes"
            )
        return GuestOffset(start), GuestOffset(end)

    # The file object.

    def readable(self) -> bool:
        """Always true."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Always true."""
        self._check_open()
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read at the cursor into ``buffer`` and move the cursor; 0 at the end."""
        with self._cursor_lock:
            count = self.preadinto(buffer, self._position)
            self._position += count
            return count

    def readall(self) -> bytes:
        """Everything from the cursor to the end."""
        parts = []
        while part := self.read(_READALL_STEP):
            parts.append(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the cursor; it may stand past the end, where reads give nothing."""
        self._check_open()
        with self._cursor_lock:
            base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
            if whence not in base:
                raise ArgumentError(f"whence is 0, 1 or 2, not {whence}")
            position = base[whence] + offset
            if position < 0:
                raise ArgumentError(f"cannot seek to {position}, before the start of the disk")
            self._position = position
            return position

    def tell(self) -> int:
        """The cursor."""
        self._check_open()
        return self._position

    def _check_open(self) -> None:
        if self.closed:
            raise ArgumentError("the image is closed")

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} {self.name!r} {self._size} bytes{state}>"
