"""Where the bytes of a new image go: positional writes, all or an error, from several threads.

What kinds there are, and when what is written takes effect, say the classes that build on this.
Knows bytes, nothing of formats.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn

from qcow2crypt.errors import TargetError
from qcow2crypt.pagecache import SPARED, CacheDropper, CacheMode, is_uncached
from qcow2crypt.units import ReadBuffer

_PARTS_MAX = 1024
"""POSIX systems take so many parts in one call, or more."""
_HUGE_PAGE = 2 << 20
"""For a write of a whole one ext4 takes a huge page into its cache.  In a virtual machine that was
slow to fill, and halves were not: docs/conversion.md."""


class Output(ABC):
    """An open target.  A context manager: leaving it without ``commit`` gives it up."""

    name: str
    replaying: Callable[[ReadBuffer, int], None] | None
    """Gets what is written in place of the file, which holds it already; see ``tasks.resuming``."""
    after_failure: str
    """What a person must know of the target when something went wrong."""

    def __init__(self, cache: CacheMode | None) -> None:
        self._cache = cache
        self._dropper: CacheDropper | None = None
        self.replaying: Callable[[ReadBuffer, int], None] | None = None
        self._fd = -1

    def _watch_cache(self) -> None:
        """The descriptor is open: follow what is written, if the page cache shall be left alone."""
        if self._cache is None:
            self._dropper = CacheDropper(self._fd, written=True, spared=SPARED)
        elif is_uncached(self._cache):
            self._dropper = CacheDropper(self._fd, written=True)

    @abstractmethod
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of what stands under the target's name; None if nothing does."""

    @property
    def companions(self) -> Sequence[Output]:
        """The files that belong to this one."""
        return ()

    @abstractmethod
    def with_companion(self, target: str | os.PathLike[str]) -> Output:
        """A second file that belongs to this one.  Raises TargetError."""

    @abstractmethod
    def lock(self) -> None:
        """Keep others from using the target.  The first write does this too."""

    @abstractmethod
    def need(self, size: int) -> None:
        """The image is going to have so many bytes.  Raises TargetError if there is no room."""

    @abstractmethod
    def clear(self, offset: int, length: int) -> None:
        """Let a range read as zeros that nobody writes."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Set the length; a longer file gets a hole."""

    @abstractmethod
    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        """Have a range set aside; ``full``: write zeros to it."""

    @abstractmethod
    def commit(self) -> None:
        """All is written: bring it to the disk and let it take effect."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was not committed."""

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        self.lock()
        if self.replaying is not None:
            self.replaying(data, offset)
            return
        view = memoryview(data).cast("B")
        try:
            if hasattr(os, "pwrite"):
                done = 0
                while done < view.nbytes:
                    most = view.nbytes if (offset + done) % _HUGE_PAGE else done + _HUGE_PAGE // 2
                    done += os.pwrite(self._fd, view[done:most], offset + done)
            else:
                os.lseek(self._fd, offset, os.SEEK_SET)
                done = 0
                while done < view.nbytes:
                    done += os.write(self._fd, view[done:])
        except OSError as error:
            self._fail("write", error)
        if self._dropper is not None:
            self._dropper.touched(offset, view.nbytes)

    def pwritev(self, parts: Sequence[ReadBuffer], offset: int) -> None:
        """Write all of the parts, one behind the other, from ``offset`` on.  Views are of bytes."""
        self.lock()
        if hasattr(os, "pwritev") and self.replaying is None:
            for first in range(0, len(parts), _PARTS_MAX):
                group = parts[first : first + _PARTS_MAX]
                length = sum(map(len, group))
                try:
                    done = os.pwritev(self._fd, group, offset)
                except OSError as error:
                    self._fail("write", error)
                if done < length:  # the rest, or the error that stopped it
                    self.pwrite(b"".join(group)[done:], offset + done)
                if self._dropper is not None:
                    self._dropper.touched(offset, done)
                offset += length
            return
        for part in parts:
            self.pwrite(part, offset)
            offset += len(part)

    def _sync(self) -> None:
        if self._cache != "unsafe":
            os.fsync(self._fd)
        if self._dropper is not None:
            self._dropper.finish()

    def _fail(self, verb: str, error: OSError) -> NoReturn:
        reason = error.strerror or str(error)
        raise TargetError(f"cannot {verb} '{self.name}': {reason}. {self.after_failure}") from error

    @abstractmethod
    def __enter__(self) -> Output:
        """The target itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
