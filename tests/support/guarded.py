"""Memory with a wall before and behind it: to touch one byte too many ends the process."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

import pytest

PAGE = mmap.PAGESIZE
_PROT_NONE = 0


class Guarded:
    """``size`` bytes that end at a page nobody may touch, or begin behind one.

    ``view`` is the memory; give it up before the object goes.
    """

    def __init__(self, data: bytes, *, at_end: bool) -> None:
        if sys.platform == "win32":
            pytest.skip("guard pages were not tested: mprotect is POSIX")
        inner = -(-max(len(data), 1) // PAGE) * PAGE
        self._map = mmap.mmap(-1, inner + 2 * PAGE)
        anchor = ctypes.c_char.from_buffer(self._map)
        start = ctypes.addressof(anchor)
        del anchor  # or the map could never be closed
        libc = ctypes.CDLL(None, use_errno=True)
        for wall in (start, start + PAGE + inner):
            if libc.mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(PAGE), _PROT_NONE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        first = PAGE + inner - len(data) if at_end else PAGE
        self.view = memoryview(self._map)[first : first + len(data)]
        self.view[:] = data
