"""Count how often an instruction runs, or data is touched, with the processor's breakpoints.

perf_event_open(2) by ctypes, with events of the type breakpoint.  A counter follows the threads
and processes that its thread makes, and stops nobody.  There are four for each thread.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from typing import Any

_SYSCALL_NUMBER = 298
_BREAKPOINT = 5
_EXECUTE, _READ_WRITE = 4, 3
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR, _REMOVE_ON_EXEC = 1 << 1, 1 << 5, 1 << 6, 1 << 36
_CLOSE_ON_EXEC = 8
_SIZE = 128
AT_ONCE = 4


@functools.cache
def _libc() -> Any:  # noqa: ANN401 - ctypes has no types for foreign functions
    return ctypes.CDLL(None, use_errno=True)


def open_counter(tid: int, address: int, *, data: bool) -> int:
    """A descriptor that counts for thread ``tid`` and what it starts; 0 is this thread.

    ``data`` counts reads and writes of the 8 bytes at ``address``, otherwise executions.
    Raises OSError.
    """
    kind = _READ_WRITE if data else _EXECUTE
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR | _REMOVE_ON_EXEC
    try:
        return _open(tid, address, kind, flags)
    except OSError:
        # Linux before 5.13 does not know the last flag.
        return _open(tid, address, kind, flags & ~_REMOVE_ON_EXEC)


def _open(tid: int, address: int, kind: int, flags: int) -> int:
    attributes = bytearray(_SIZE)
    struct.pack_into("<II", attributes, 0, _BREAKPOINT, _SIZE)
    struct.pack_into("<Q", attributes, 40, flags)
    struct.pack_into("<IQQ", attributes, 52, kind, address, 8)
    buffer = (ctypes.c_char * _SIZE).from_buffer(attributes)
    number = ctypes.c_long
    result: int = _libc().syscall(
        number(_SYSCALL_NUMBER),
        ctypes.byref(buffer),
        number(tid),
        number(-1),
        number(-1),
        number(_CLOSE_ON_EXEC),
    )
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def read_counter(descriptor: int) -> int:
    """What it has counted so far."""
    count: int = struct.unpack("<Q", os.read(descriptor, 8))[0]
    return count


@functools.cache
def why_not() -> str:
    """Why counters cannot be had here; empty where they can."""
    try:
        os.close(open_counter(0, 0x1000, data=False))
    except (OSError, AttributeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return f"perf_event_open does not give breakpoint counters here ({text})"
    return ""
