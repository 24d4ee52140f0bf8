"""What files can do and Python's ``os`` and file objects do not offer as one call.

Knows descriptors and file objects, nothing of images.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from qcow2crypt.errors import ArgumentError, ReadOnlyError, SourceError

_GAP_MAX = 4096
"""So much between two parts is read with them."""
_VIEWS_MAX = 1000
"""POSIX systems take 1024 in one call, or more."""

# All bytes, and the length, but not the times: what a barrier needs.
sync_data = getattr(os, "fdatasync", os.fsync)


def in_groups(
    parts: Sequence[tuple[memoryview, int]],
) -> Iterator[tuple[list[memoryview], int, int, int]]:
    """Buffers, each with its offset in a file, in groups that one call can read.

    Gives the buffers, with others for small gaps between them, where they begin and end in the
    file, and how many parts they are.
    """
    group: list[memoryview] = []
    between = memoryview(bytearray(_GAP_MAX))  # read and thrown away
    start = end = count = 0
    for view, offset in parts:
        gap = offset - end
        if group and not (0 <= gap <= _GAP_MAX and len(group) < _VIEWS_MAX):
            yield group, start, end, count
            group, count = [], 0
        if not group:
            start = offset
        elif gap:
            group.append(between[:gap])
        group.append(view)
        count += 1
        end = offset + view.nbytes
    if group:
        yield group, start, end, count


def why_not_open(error: OSError) -> str:
    """Why a file could not be opened, and what to do where that is not plain."""
    if error.errno == errno.EMFILE:
        return (
            f"{error.strerror}. Every file of a chain of backing files stays open: let the process "
            "have more of them (in a shell: ulimit -n 4096), or join layers with 'commit' or "
            "'rebase'"
        )
    return str(error.strerror)


def check_object_writable(file: BinaryIO, name: str) -> None:
    """Refuse a file object that cannot write anywhere: ReadOnlyError, ArgumentError."""
    says = getattr(file, "writable", None)
    if not hasattr(file, "write") or (says is not None and not says()):
        raise ReadOnlyError(f"'{name}' is a file object that is open for reading only")
    if "a" in str(getattr(file, "mode", "")):
        raise ArgumentError(f"'{name}' is open for appending: all writes would go to its end")


def truncate_object(file: BinaryIO, size: int) -> None:
    """Set the length of a file object; what is added reads as zeros."""
    file.truncate(size)
    file.seek(0, os.SEEK_END)
    if file.tell() < size:  # io.BytesIO only shrinks
        file.seek(size - 1)
        file.write(b"\0")


def object_size(file: BinaryIO, name: str) -> int:
    """The length of a file object.  SourceError for one that cannot seek, or tells nonsense."""
    try:
        file.seek(0, os.SEEK_END)  # gives nothing for an mmap before Python 3.13
        size = int(file.tell())
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"cannot seek in '{name}': an image needs random access") from error
    if size < 0:
        raise SourceError(f"cannot seek in '{name}': it says that it has {size} bytes")
    return size


def number_of(file: BinaryIO) -> int | None:
    """The descriptor under a file object; None for one that lives in memory."""
    try:
        number = file.fileno()
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    return number


def object_identity(file: BinaryIO) -> tuple[int, int] | None:
    """Device and inode under a file object; None for one that lives in memory."""
    number = number_of(file)
    try:
        status = os.fstat(-1 if number is None else number)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Free the disk space of a range, which then reads as zeros; the file keeps its length.

    This is fallocate(2), which Python does not offer.  False, and nothing has changed, where
    there is no such call or the file system cannot do it.  Raises OSError.
    """
    import ctypes  # only writers need it

    call = _fallocate()
    if call is None:
        return False
    punch_hole_keep_size = 0x02 | 0x01  # linux/falloc.h
    while call(fd, punch_hole_keep_size, offset, length) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL, errno.EPERM):
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def claim(fd: int) -> bool | None:
    """Say that this process writes to a file, until it is closed; False if another one does.

    Nobody is kept from anything: it only tells a file in work from one that was left.  None where
    it cannot be told.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def write_out(fd: int, offset: int, length: int, *, wait: bool = True) -> None:
    """Bring a range of a file from the page cache to the disk, and wait until it is there.

    Without ``wait`` it only begins.  What is written out stays in the cache.
    This is sync_file_range(2), which Python does not offer; no barrier, since the disk may hold
    it in a cache of its own.  Does nothing where there is no such call, or for what is no file.
    """
    call = _sync_file_range()
    if call is not None:
        write, wait_before_and_after = 0x02, 0x01 | 0x04  # linux/fs.h
        call(fd, offset, length, write | wait_before_and_after if wait else write)


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return call


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


def kind(mode: int) -> str:
    """A word for what is no regular file."""
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISCHR(mode):
        return "a character device"
    return "a special file"
