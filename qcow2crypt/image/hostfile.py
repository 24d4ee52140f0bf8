"""Positional, thread-safe reads and writes of an image file.  Knows bytes, nothing of formats.

Past the end of the file every byte reads as zero, as QEMU's block layer does: a qcow2 file may
end inside its last cluster, or before a table that would be all zero.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, NoReturn, TypeAlias

from qcow2crypt.errors import ArgumentError, ReadOnlyError, SourceError, TargetError
from qcow2crypt.image import locks
from qcow2crypt.image.filecalls import (
    check_object_writable,
    in_groups,
    kind,
    number_of,
    object_identity,
    object_size,
    punch_hole,
    sync_data,
    truncate_object,
    why_not_open,
)
from qcow2crypt.pagecache import CacheDropper
from qcow2crypt.units import ReadBuffer, WriteBuffer

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"


class Lent(NamedTuple):
    """A descriptor of a file or a device, open for reading, that stays its owner's."""

    number: int
    name: str


# File objects raise more than OSError: closed, text, a size that is no size, a missing method.
_FILE_ERRORS = (OSError, ValueError, TypeError, OverflowError, AttributeError)


class _Descriptor:
    """An open descriptor that is closed when its last user lets go of this object.

    So ``HostFile.close`` in one thread never takes the number away from a read in another:
    the operating system would give it to the next file that is opened, and the read hit that.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        with contextlib.suppress(OSError):
            close(self.number)


class HostFile:
    """An image file, by path or as a binary file object with ``seek``.

    It is open for reading, and with ``writable=True`` for writing too.  A path is closed again by
    ``close``.  A file object stays its owner's; its position is moved under a lock, so threads
    may share it through one HostFile.  ``size`` is the length in bytes, kept up to date with what
    is written here.

    Raises SourceError when the operating system refuses to open or to read, ReadOnlyError when
    it refuses only to open for writing, TargetError when it refuses to write.
    """

    def __init__(self, source: Source | Lent, *, writable: bool = False) -> None:
        self.writable = writable
        self._lock = threading.Lock()
        self._descriptor: _Descriptor | None = None
        self._file: BinaryIO | None = None
        self._owns_file = False
        self._identity: tuple[int, int] | None = None
        self._locked: frozenset[int] = frozenset()
        self._is_lent = False
        self._dropper: CacheDropper | None = None
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            if not isinstance(self.name, str):
                raise ArgumentError("an image is named by a str or PathLike[str]")
            self._open_path(self.name)
        elif isinstance(source, Lent):
            self.name = source.name
            self._is_lent = True
            try:
                copy = os.dup(source.number)
            except OSError as error:
                raise SourceError(f"cannot read {source.name}: {error.strerror}") from error
            self._use(copy, source.name)
        elif hasattr(source, "seek") and hasattr(source, "read"):
            name = getattr(source, "name", None)
            self.name = name if isinstance(name, str) else f"<{type(source).__name__}>"
            if writable:
                check_object_writable(source, self.name)
            self._file = source
            self.size = object_size(source, self.name)
            self._identity = object_identity(source)
        else:
            raise ArgumentError(
                f"an image is a path or a binary file object, not {type(source).__name__}"
            )

    def _open_path(self, path: str) -> None:
        flags = os.O_RDWR if self.writable else os.O_RDONLY
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
            fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            if self.writable and os.path.isfile(path) and os.access(path, os.R_OK):
                raise ReadOnlyError(
                    f"cannot open '{path}' for writing: {error.strerror}. It can be read"
                ) from error
            raise SourceError(f"cannot open '{path}': {why_not_open(error)}") from error
        except ValueError as error:  # a NUL character, or one that file names cannot have
            raise SourceError(f"cannot open {path!r}: {error}") from error
        self._use(fd, path)

    def _use(self, fd: int, path: str) -> None:
        try:
            status = os.fstat(fd)
            mode = status.st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise SourceError(f"cannot read '{path}': it is {kind(mode)}, not an image file")
            self.size = os.lseek(fd, 0, os.SEEK_END)
            self._identity = (status.st_dev, status.st_ino)
        except OSError as error:
            os.close(fd)
            raise SourceError(f"cannot read '{path}': {error.strerror}") from error
        except SourceError:
            os.close(fd)
            raise
        if hasattr(os, "preadv"):
            self._descriptor = _Descriptor(fd)
        else:
            self._file = os.fdopen(fd, "r+b" if self.writable else "rb", buffering=0)
            self._owns_file = True

    @property
    def fd(self) -> int | None:
        """The descriptor of a file that was opened by path, else None."""
        descriptor = self._descriptor
        return None if descriptor is None else descriptor.number

    def next_data(self, position: int) -> tuple[int, int] | None:
        """The first range at or after ``position`` that is no hole: start and end.

        At the end of the file, and where only a hole is left, both are the size of the file.
        None where holes cannot be told from data.
        """
        descriptor = self._descriptor
        if descriptor is None or not hasattr(os, "SEEK_DATA"):
            return None
        try:
            start = os.lseek(descriptor.number, position, os.SEEK_DATA)
            return start, os.lseek(descriptor.number, start, os.SEEK_HOLE)
        except OSError as error:
            return (self.size, self.size) if error.errno == errno.ENXIO else None

    @property
    def allocated_size(self) -> int:
        """Bytes that the file takes on its disk (holes do not count)."""
        descriptor = self._descriptor
        if descriptor is None:
            return self.size
        blocks = getattr(os.fstat(descriptor.number), "st_blocks", None)
        return self.size if blocks is None else int(blocks) * 512

    def leave_cache(self) -> None:
        """From now on what is read leaves the page cache of the operating system."""
        if self._descriptor is not None and self._dropper is None:
            self._dropper = CacheDropper(self._descriptor.number, written=False)

    def identity(self) -> tuple[int, int] | None:
        """Device and inode: the same file, whatever its name.  None when there is none below."""
        return self._identity

    def lock(self, *, writing: bool, resizing: bool = True, force_share: bool = False) -> None:
        """Take QEMU's image locks, until ``close``.  Called again, what is held changes to that.

        A writer excludes all others, a reader excludes writers; ``force_share`` is a reader that
        excludes nobody.  A file object of the operating system is locked through its descriptor,
        one in memory not at all.  Raises ImageLockedError when someone else is in the way.
        """
        wanted = locks.lock_bytes(writing=writing, resizing=resizing, force_share=force_share)
        with self._lock:
            if self._descriptor is not None:
                number: int | None = self._descriptor.number
            else:
                number = None if self._file is None else number_of(self._file)
            if number is not None and self._identity is not None:
                self._locked = locks.acquire(number, self.name, wanted, self._locked)

    # ------------------------------------------------------------------------------- reading

    def pread_into(self, buffer: WriteBuffer, offset: int) -> None:
        """Fill ``buffer`` with the bytes at ``offset``; zeros past the end of the file."""
        view = memoryview(buffer)
        done = 0
        length = view.nbytes
        while done < length and offset + done < self.size:
            try:
                count = self._read_some(view[done:], offset + done)
            except _FILE_ERRORS as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise SourceError(
                    f"cannot read '{self.name}' at host offset {offset + done:#x}: {reason}"
                ) from error
            if count <= 0:
                break
            done += count
        if self._dropper is not None:
            self._dropper.touched(offset, done)
        if done < length:
            view[done:] = bytes(length - done)

    def pread_parts(self, parts: Sequence[tuple[memoryview, int]]) -> None:
        """Fill each buffer from its offset.  In the order of offsets this takes few calls."""
        done = 0
        for group, start, end, count in in_groups(parts):
            self._pread_group(group, start, end, parts[done : done + count])
            done += count

    def _pread_group(
        self, group: list[memoryview], start: int, end: int, parts: Sequence[tuple[memoryview, int]]
    ) -> None:
        """Read what lies in one piece; if that is not all there, each part alone."""
        descriptor = self._descriptor
        if descriptor is not None and len(parts) > 1:
            try:
                if os.preadv(descriptor.number, group, start) == end - start:
                    if self._dropper is not None:
                        self._dropper.touched(start, end - start)
                    return
            except OSError:  # told with its offset below
                pass
            finally:
                del descriptor
        for view, offset in parts:
            self.pread_into(view, offset)

    def pread(self, length: int, offset: int) -> bytes:
        """``length`` bytes at ``offset``, zeros past the end.  For tables, not for bulk data."""
        descriptor = self._descriptor
        if descriptor is not None and self._dropper is None and offset + length <= self.size:
            try:
                data = os.pread(descriptor.number, length, offset)
                if len(data) == length:
                    return data
            except OSError:  # told with its offset below
                pass
            finally:
                del descriptor
        buffer = bytearray(length)
        self.pread_into(buffer, offset)
        return bytes(buffer)

    def _read_some(self, view: memoryview, offset: int) -> int:
        descriptor = self._descriptor
        if descriptor is not None:
            try:
                return os.preadv(descriptor.number, [view], offset)
            finally:
                del descriptor  # or the traceback of an error would hold the file open
        with self._lock:
            file = self._open_file()
            file.seek(offset)
            if hasattr(file, "readinto"):
                return int(file.readinto(view) or 0)
            data = file.read(view.nbytes)
            view[: len(data)] = data
            return len(data)

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the file is closed")
        return self._file

    # ------------------------------------------------------------------------------- writing

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset``.  Past the end, the file grows."""
        self._check_writable()
        view = memoryview(data).cast("B")
        done = 0
        while done < view.nbytes:
            try:
                count = self._write_some(view[done:], offset + done)
                if not 0 < count <= view.nbytes - done:
                    raise OSError(errno.EIO, f"{count!r} bytes were taken of {view.nbytes - done}")
            except _FILE_ERRORS as error:
                self._fail("write", f" at host offset {offset + done:#x}", error)
            done += count
            if offset + done > self.size:
                with self._lock:
                    self.size = max(self.size, offset + done)

    def _write_some(self, view: memoryview, offset: int) -> int:
        descriptor = self._descriptor
        if descriptor is not None:
            try:
                return os.pwrite(descriptor.number, view, offset)
            finally:
                del descriptor
        with self._lock:
            file = self._open_file()
            file.seek(offset)
            return file.write(view)

    def truncate(self, size: int) -> None:
        """Set the length.  What is added reads as zeros."""
        self._check_writable()
        descriptor = self._descriptor
        try:
            if descriptor is not None:
                os.ftruncate(descriptor.number, size)
            else:
                with self._lock:
                    truncate_object(self._open_file(), size)
        except _FILE_ERRORS as error:
            del descriptor
            self._fail("set the size of", "", error)
        with self._lock:
            self.size = size

    def flush(self) -> None:
        """A barrier: what was written before is on the disk before anything written later."""
        self._check_writable()
        descriptor = self._descriptor
        try:
            if descriptor is not None:
                sync_data(descriptor.number)
            else:
                with self._lock:
                    file = self._open_file()
                    file.flush()
                    number = number_of(file)
                    if number is not None:
                        sync_data(number)
        except _FILE_ERRORS as error:
            del descriptor
            self._fail("sync", "", error)

    def punch_hole(self, offset: int, length: int) -> bool:
        """Give the disk space of a range back.  True: the range reads as zeros now, up to the end
        of the file.  False: this cannot be done here, and nothing has changed.
        """
        self._check_writable()
        descriptor = self._descriptor
        if descriptor is None or length <= 0:
            return False
        try:
            return punch_hole(descriptor.number, offset, length)
        except OSError as error:
            del descriptor
            self._fail("make a hole in", f" at host offset {offset:#x}", error)

    def _check_writable(self) -> None:
        if not self.writable:
            raise ReadOnlyError(f"'{self.name}' is open for reading only")

    def _fail(self, verb: str, where: str, error: BaseException) -> NoReturn:
        reason = getattr(error, "strerror", None) or str(error)
        raise TargetError(f"cannot {verb} '{self.name}'{where}: {reason}") from error

    def close(self) -> None:
        """Close a file that was opened by path.  May be called again.  Does not sync."""
        with self._lock:
            # The locks go with the descriptor, but stay on what others keep open.
            descriptor, self._descriptor = self._descriptor, None
            if self._is_lent and self._locked and descriptor is not None:
                with contextlib.suppress(OSError):
                    locks.release(descriptor.number, self._locked)
            file, self._file = self._file, None
            if file is None:
                return
            if self._owns_file:
                file.close()
            elif self._locked and (number := number_of(file)) is not None:
                with contextlib.suppress(OSError):
                    locks.release(number, self._locked)
