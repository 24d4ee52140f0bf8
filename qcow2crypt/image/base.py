"""What every image is: a guest disk to read and perhaps to write, whatever its format.

Knows guest offsets; knows nothing of tables, keys or files.  A format fills in ``_read_own``
and ``own_extents``, and the writes if it has them; this file makes a Python file object,
positional reads and the view through a chain of backing files of them.
"""

from __future__ import annotations

import io
import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.errors import (
    ArgumentError,
    Qcow2CryptError,
    ReadOnlyError,
    SnapshotNotFoundError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.extents import Extent, ExtentKind, Stretch, as_stretches
from qcow2crypt.image.layers import Ranges, close_all, fill_from, through_chain
from qcow2crypt.units import GuestOffset

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from qcow2crypt.image.hostfile import HostFile
    from qcow2crypt.image.info import ImageInfo, Snapshot

__all__ = ["Extent", "ExtentKind", "Image"]

_READALL_STEP = 1 << 20
_NEVER = 1 << 63


class Image(io.RawIOBase):
    """A guest disk.  An ``io.RawIOBase`` with positional reads and writes beside the cursor.

    ``pread`` and ``preadinto`` use no cursor and may be called from many threads at once;
    ``read``, ``readinto``, ``write``, ``seek`` and ``tell`` share one cursor under a lock.
    An image that is not ``writable()`` refuses every write with ReadOnlyError.
    """

    format: str
    """The name of the format in qemu-img's words: ``qcow2`` or ``raw``."""
    name: str
    """The file name, or a word for a file object."""
    backing: Image | None = None
    """The image that has what this layer has not; closed with this one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0
        self._cursor_lock = threading.Lock()

    # What a format fills in.

    @abstractmethod
    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        """Fill ``view`` with the guest bytes that this layer has; the range lies inside the disk.

        Gives the ranges that it lacks: they are untouched, for the layers below to fill.
        """

    @abstractmethod
    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """As ``extents``, of this layer alone: UNALLOCATED is what it does not have."""

    @abstractmethod
    def info(self) -> ImageInfo:
        """Describe the image.  Needs no passphrase."""

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file under the image; None when it is a file object."""
        return None

    @property
    def encrypted(self) -> bool:
        """Whether the data of this layer is encrypted."""
        return False

    def host_files(self) -> tuple[HostFile, ...]:
        """The open files that this layer is read from, the image file first; not its backing."""
        return ()

    def request_ends(self) -> tuple[int, int]:
        """Where a request of ``qemu-img convert`` to this image ends, however much it asks for.

        At multiples of the first guest offset, and at the second.
        """
        return _NEVER, _NEVER

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The internal snapshots, in the order of their table.  Raises HeaderError."""
        return ()

    def snapshot(self, id_or_name: str) -> Image:
        """The guest disk at the time of a snapshot, read-only: an image of its own to close.

        An id wins over a name.  It reads through this image and is of no use when this one is
        closed.  Raises SnapshotNotFoundError, HeaderError.
        """
        raise SnapshotNotFoundError(f"'{self.name}' has no internal snapshot '{id_or_name}'")

    # What a format that can be written replaces.  (Here their arguments have no use: ARG002.)

    def pwrite(self, data: ReadableBuffer, offset: int) -> int:  # noqa: ARG002
        """Write all of ``data`` at the guest offset ``offset``; returns its length.

        Raises ArgumentError for a range outside the disk, ReadOnlyError, TargetError.
        """
        raise self._read_only()

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:  # noqa: ARG002
        """Make a guest range read as zeros, with ``unmap`` without keeping its clusters."""
        raise self._read_only()

    def discard(self, offset: int, length: int) -> None:  # noqa: ARG002
        """The guest needs a range no more: whole clusters in it are let go and read as zeros."""
        raise self._read_only()

    def truncate(self, size: int | None = None, /) -> int:  # noqa: ARG002
        """Give the guest disk another size; what it grows by reads as zeros."""
        raise self._read_only()

    def create_snapshot(self, name: str) -> Snapshot:  # noqa: ARG002
        """Keep the disk as it is now as an internal snapshot; gives it, with its new id.

        It is whole on the disk when this returns.  Raises UnsupportedFeatureError where the format
        has no snapshots, TargetError where a refcount has no room for one more, ReadOnlyError.
        """
        raise self._no_snapshots()

    def apply_snapshot(self, id_or_name: str) -> Snapshot:  # noqa: ARG002
        """Let content and size of the disk be again what they were; what it is now is lost.

        An id goes before a name.  Raises SnapshotNotFoundError; else as ``create_snapshot``.
        """
        raise self._no_snapshots()

    def delete_snapshot(self, id_or_name: str) -> Snapshot:  # noqa: ARG002
        """Let go of a snapshot.  A name goes before an id.  Errors as ``apply_snapshot``."""
        raise self._no_snapshots()

    def flush(self) -> None:
        """Put what was written on the disk.  Nothing to do for an image that is only read."""

    def writable(self) -> bool:
        """True for an image that was opened with mode ``r+``."""
        self._check_open()
        return False

    def _no_snapshots(self) -> Qcow2CryptError:
        if self.writable():
            return UnsupportedFeatureError(f"internal snapshots in the format {self.format}")
        return self._read_only()

    def _read_only(self) -> ReadOnlyError:
        self._check_open()
        return ReadOnlyError(f"'{self.name}' is open read-only: nothing was written")

    # The guest disk.

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The extents of a guest range in guest order, without gaps, clipped to the range.

        ``start`` and ``length`` are bytes; ``length`` None means up to the end of the disk.
        They are what the guest sees, through all backing files: ``depth`` tells the layer.
        Raises ArgumentError for a range outside the disk, MappingError for a damaged table.
        """
        return through_chain(self.own_extents(start, length), self.backing)

    def stretches(self, start: int = 0) -> Iterator[Stretch]:
        """The extents from ``start`` to the end of the disk, less what many readers do not need.

        Errors as ``extents``.
        """
        return as_stretches(start, self.extents(start))

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
            self._read_through(view[:count], GuestOffset(offset))
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

    def _read_through(self, view: memoryview, offset: GuestOffset) -> None:
        """Fill ``view`` with guest bytes; the range lies inside the disk."""
        # Looked up first: who lets go of the backing file has put what it had into this layer.
        backing = self.backing
        missing = self._read_own(view, offset)
        if missing:
            fill_from(backing, view, offset, missing)

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

    def write(self, data: ReadableBuffer, /) -> int:
        """Write ``data`` at the cursor and move the cursor.  Errors as ``pwrite``."""
        if not self.writable():
            raise self._read_only()
        with self._cursor_lock:
            count = self.pwrite(data, self._position)
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

    def close(self) -> None:
        """Close the image and all that is under it, whatever of this fails.  Errors as ``flush``.

        May be called again.
        """
        close_all(self)

    def _close_own(self) -> None:
        """Close what this layer alone has.  Not called again."""
        super().close()  # flushes

    def _check_open(self) -> None:
        if self.closed:
            raise ArgumentError("the image is closed")

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} {self.name!r} {self._size} bytes{state}>"
