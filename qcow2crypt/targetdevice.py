"""A block device as the target of an image: it is written in place, and keeps its size.

There is no second device to write to first.  So what was on it is lost with the first byte, and
after an error it holds a part of the new image.  A device that is mounted, or that the system uses
otherwise, is refused.  Follows open(2), "O_EXCL", and fallocate(2) on block devices.
"""

from __future__ import annotations

import errno
import os
import stat

from qcow2crypt.errors import TargetError
from qcow2crypt.image import locks
from qcow2crypt.image.filecalls import punch_hole
from qcow2crypt.output import Output
from qcow2crypt.pagecache import CacheMode
from qcow2crypt.targetfile import TargetFile

_ZEROS = bytes(1 << 20)


def open_target(target: str | os.PathLike[str], *, cache: CacheMode | None = None) -> Output:
    """The target of that name: a block device that exists, or a file that is to appear.

    Raises TargetError, ImageLockedError.
    """
    if is_device(target):
        return TargetDevice(target, cache=cache)
    return TargetFile(target, cache=cache)


def is_device(target: str | os.PathLike[str]) -> bool:
    """Whether a block device has that name."""
    try:
        return stat.S_ISBLK(os.stat(target).st_mode)
    except (OSError, ValueError, TypeError):
        return False


class TargetDevice(Output):
    """A block device, open for writing and locked.  ``size`` in bytes."""

    after_failure = "The device holds a part of the new image, and no longer what it held before"

    def __init__(self, target: str | os.PathLike[str], *, cache: CacheMode | None = None) -> None:
        super().__init__(cache)
        self.name = os.fsdecode(target)
        try:
            self._fd = os.open(target, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            what = error.strerror
            if error.errno == errno.EBUSY:
                what = "it is mounted, or the system uses it otherwise; stop that first"
            raise TargetError(f"cannot write to the device '{self.name}': {what}") from error
        try:
            if locks.AVAILABLE:
                locks.acquire(self._fd, self.name, locks.lock_bytes(writing=True), frozenset())
        except BaseException:
            self.close()
            raise
        self._watch_cache()

    def __enter__(self) -> TargetDevice:
        return self

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the node."""
        status = os.fstat(self._fd)
        return (status.st_dev, status.st_ino)

    def with_companion(self, target: str | os.PathLike[str]) -> Output:
        """Not here: an image that is on a device is there alone."""
        raise TargetError(
            f"an image on a device cannot have a data file: '{os.fsdecode(target)}'. Give the "
            "image a file"
        )

    def lock(self) -> None:
        """It is locked since it was opened."""

    def need(self, size: int) -> None:
        """The image is going to have so many bytes.  Raises TargetError."""
        if size > self.size:
            raise TargetError(
                f"the device '{self.name}' is too small: it has {self.size} bytes, and {size} are "
                "to be written"
            )

    def truncate(self, size: int) -> None:
        """A device keeps its size; ``size`` must not be above it."""
        self.need(size)

    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        """A device has its space already, but not zeros in it."""
        del full
        self.need(offset + length)
        self.clear(offset, length)

    def clear(self, offset: int, length: int) -> None:
        """Let a range read as zeros: the device is asked to do that, else they are written."""
        try:
            if length <= 0 or punch_hole(self._fd, offset, length):
                return
        except OSError as error:
            self._fail("write zeros to", error)
        for start in range(offset, offset + length, len(_ZEROS)):
            self.pwrite(memoryview(_ZEROS)[: offset + length - start], start)

    def commit(self) -> None:
        """Bring all to the disk."""
        try:
            self._sync()
        except OSError as error:
            self._fail("finish", error)
        self.close()

    def close(self) -> None:
        """Let go of the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
