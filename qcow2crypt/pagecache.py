"""Keep a long copy out of the page cache of the operating system, behind the work.

Knows a descriptor and ranges of it.  Follows posix_fadvise(2), "POSIX_FADV_DONTNEED": bytes that
are not on the disk yet begin their way there, those that are leave the cache.  So a range is named
twice: when it was written, and some time later, when it is waited for.  Without that a fast writer
fills the cache with what is on its way.  Where there is no such call nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from typing import Literal, TypeAlias

from qcow2crypt.image.filecalls import write_out

CacheMode: TypeAlias = Literal["none", "writeback", "writethrough", "directsync", "unsafe"]
CACHE_MODES: tuple[CacheMode, ...] = (
    "none",
    "writeback",
    "writethrough",
    "directsync",
    "unsafe",
)
"""The words of QEMU for how a file is cached."""

_WINDOW = 8 << 20
_ON_THE_WAY = 8
"""So many windows may be on their way to the disk."""


SPARED = 1 << 30
"""A target of so many bytes, or less, may stay in the page cache where nobody says otherwise."""


def is_uncached(mode: CacheMode | None) -> bool:
    """Whether a file that is used in this way shall leave the page cache alone."""
    return mode in ("none", "directsync")


class CacheDropper:
    """Drops what was written to ``descriptor``, or read from it.  Threads may share it."""

    def __init__(self, descriptor: int, *, written: bool, spared: int = 0) -> None:
        """``spared``: so many bytes or less begin their way to the disk, but stay in the cache.

        With more than that they go, too.
        """
        self._descriptor = descriptor
        self._spared = spared
        self._written = written
        self._lock = threading.Lock()
        self._first = self._end = 0
        self._touched = 0
        self._waiting: deque[tuple[int, int]] = deque()

    def touched(self, offset: int, length: int) -> None:
        """A range was written or read.  Now and then this lets go of some."""
        with self._lock:
            if not self._touched:
                self._first, self._end = offset, offset
            self._first = min(self._first, offset)
            self._end = max(self._end, offset + length)
            self._touched += length
            if self._touched < _WINDOW:
                return
            window = (self._first, self._end - self._first)
            self._touched = 0
            last = None
            stays = self._spared > _WINDOW
            if self._spared > 0:
                self._spared -= _WINDOW
                if not stays:
                    window = (0, self._end)  # all that was spared
            if not stays:
                self._waiting.append(window)
                if len(self._waiting) > _ON_THE_WAY:
                    last = self._waiting.popleft()
        if stays:  # but it is on its way when all is to be synced
            write_out(self._descriptor, *window, wait=False)
            return
        _drop(self._descriptor, *window)
        if last is not None:
            if self._written:
                write_out(self._descriptor, *last)
            _drop(self._descriptor, *last)

    def finish(self) -> None:
        """Let go of all; what was written must be on the disk by now."""
        if self._spared <= 0:
            _drop(self._descriptor, 0, 0)


def _drop(descriptor: int, offset: int, length: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
