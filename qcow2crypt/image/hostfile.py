"""Positional, thread-safe reads of an image file.  Knows bytes, nothing of formats.

Past the end of the file every byte reads as zero, as QEMU's block layer does: a qcow2 file may
end inside its last cluster, or before a table that would be all zero.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import BinaryIO, TypeAlias

from qcow2crypt.errors import ArgumentError, SourceError
from qcow2crypt.units import WriteBuffer

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"


class HostFile:
    """An image file open for reading, by path or as a binary file object with ``seek``.

    A path is opened read-only and closed again by ``close``.  A file object stays its owner's;
    its position is moved under a lock, so threads may share it through one HostFile.
    Raises SourceError when the operating system refuses to open or to read.
    """

    def __init__(self, source: Source) -> None:
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._file: BinaryIO | None = None
        self._identity: tuple[int, int] | None = None
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            if not isinstance(self.name, str):
                raise ArgumentError("an image is named by a str or PathLike[str]")
            self._open_path(self.name)
        elif hasattr(source, "seek") and hasattr(source, "read"):
            name = getattr(source, "name", None)
            self.name = name if isinstance(name, str) else f"<{type(source).__name__}>"
            self._file = source
            self.size = _object_size(source, self.name)
            self._identity = _object_identity(source)
        else:
            raise ArgumentError(
                f"an image is a path or a binary file object, not {type(source).__name__}"
            )

    def _open_path(self, path: str) -> None:
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
            fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise SourceError(f"cannot open '{path}': {error.strerror}") from error
        except ValueError as error:  # a NUL character, or one that file names cannot have
            raise SourceError(f"cannot open {path!r}: {error}") from error
        try:
            status = os.fstat(fd)
            mode = status.st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise SourceError(f"cannot read '{path}': it is {_kind(mode)}, not an image file")
            self.size = os.lseek(fd, 0, os.SEEK_END)
            self._identity = (status.st_dev, status.st_ino)
        except OSError as error:
            os.close(fd)
            raise SourceError(f"cannot read '{path}': {error.strerror}") from error
        except SourceError:
            os.close(fd)
            raise
        if hasattr(os, "preadv"):
            self._fd = fd
        else:
            self._file = os.fdopen(fd, "rb", buffering=0)

    @property
    def fd(self) -> int | None:
        """The descriptor of a file that was opened by path, else None."""
        return self._fd

    @property
    def allocated_size(self) -> int:
        """Bytes that the file takes on its disk (holes do not count)."""
        if self._fd is None:
            return self.size
        blocks = getattr(os.fstat(self._fd), "st_blocks", None)
        return self.size if blocks is None else int(blocks) * 512

    def identity(self) -> tuple[int, int] | None:
        """Device and inode: the same file, whatever its name.  None when there is none below."""
        return self._identity

    def pread_into(self, buffer: WriteBuffer, offset: int) -> None:
        """Fill ``buffer`` with the bytes at ``offset``; zeros past the end of the file."""
        view = memoryview(buffer)
        done = 0
        length = view.nbytes
        while done < length and offset + done < self.size:
            try:
                count = self._read_some(view[done:], offset + done)
            # The other three come from file objects: closed, text, or with a size that is no size.
            except (OSError, ValueError, TypeError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise SourceError(
                    f"cannot read '{self.name}' at host offset {offset + done:#x}: {reason}"
                ) from error
            if count <= 0:
                break
            done += count
        if done < length:
            view[done:] = bytes(length - done)

    def pread(self, length: int, offset: int) -> bytes:
        """``length`` bytes at ``offset``, zeros past the end.  For tables, not for bulk data."""
        buffer = bytearray(length)
        self.pread_into(buffer, offset)
        return bytes(buffer)

    def _read_some(self, view: memoryview, offset: int) -> int:
        if self._fd is not None:
            return os.preadv(self._fd, [view], offset)
        file = self._file
        if file is None:
            raise ValueError("the file is closed")
        with self._lock:
            file.seek(offset)
            if hasattr(file, "readinto"):
                return int(file.readinto(view) or 0)
            data = file.read(view.nbytes)
            view[: len(data)] = data
            return len(data)

    def close(self) -> None:
        """Close a file that was opened by path.  May be called again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._file = None


def _object_size(file: BinaryIO, name: str) -> int:
    try:
        file.seek(0, os.SEEK_END)  # gives nothing for an mmap before Python 3.13
        size = int(file.tell())
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"cannot seek in '{name}': an image needs random access") from error
    if size < 0:
        raise SourceError(f"cannot seek in '{name}': it says that it has {size} bytes")
    return size


def _object_identity(file: BinaryIO) -> tuple[int, int] | None:
    """Device and inode under a file object; None for one that lives in memory."""
    try:
        status = os.fstat(file.fileno())
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    return (status.st_dev, status.st_ino)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISCHR(mode):
        return "a character device"
    return "a special file"
