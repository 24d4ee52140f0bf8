"""Copy a file of the operating system with its holes, sharing blocks where the disk can do that.

Knows descriptors and bytes.  Follows lseek(2), "SEEK_DATA", and copy_file_range(2), which shares
blocks on file systems with reflinks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_AT_ONCE = 1 << 20
_SHARED_AT_ONCE = 1 << 30
_NOT_HERE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
"""What copy_file_range says where it cannot copy; a plain copy may be possible."""


def copy_file(source: int, target: int) -> None:
    """Give the new, empty file ``target`` the content of ``source``; both are descriptors.

    Raises OSError.
    """
    size = os.fstat(source).st_size
    for start, end in _data_ranges(source, size):
        done = _copy_by_system(source, target, start, end)
        _copy_by_hand(source, target, done, end)
    os.ftruncate(target, size)


def _data_ranges(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of what is no hole, in order."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
            position = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            start, position = position, size  # this file system cannot tell
        yield start, min(position, size)


def _copy_by_system(source: int, target: int, start: int, end: int) -> int:
    """Let the operating system copy; gives how far it came."""
    if not hasattr(os, "copy_file_range"):
        return start
    while start < end:
        try:
            count = os.copy_file_range(
                source, target, min(end - start, _SHARED_AT_ONCE), start, start
            )
        except OSError as error:
            if error.errno in _NOT_HERE:
                return start
            raise
        if not count:
            return start
        start += count
    return start


def _copy_by_hand(source: int, target: int, start: int, end: int) -> None:
    if start >= end:
        return
    os.lseek(source, start, os.SEEK_SET)
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        piece = os.read(source, min(_AT_ONCE, end - start))
        if not piece:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        start += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]
