"""ptrace by ctypes: one call a function, errors as OSError.

Knows the calls and their numbers on x86-64 Linux, and no strategy.  Follows ptrace(2).
A process belongs to the thread that seized it: only that thread may make these calls.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

EVENT_STOP = 128
FORK, VFORK, CLONE, EXEC = 1, 2, 3, 4
SYSCALL_MARK = 0x80
AT_ENTRY, AT_EXIT = 1, 2
"""What ``SyscallInfo.op`` says."""

_PEEKDATA, _POKEDATA = 2, 5
_PEEKUSER, _POKEUSER, _CONT, _GETREGS, _SETREGS, _SYSCALL = 3, 6, 7, 12, 13, 24
_GETEVENTMSG, _SEIZE, _INTERRUPT, _LISTEN = 0x4201, 0x4206, 0x4207, 0x4208
_GET_SYSCALL_INFO = 0x420E
# SYSGOOD, FORK, VFORK, CLONE, EXEC, and EXITKILL: when we end, so do they.
_OPTIONS = 0x1F | 0x100000
_DEBUG_REGISTERS = 848  # offsetof(struct user, u_debugreg)

WAIT_ALL = 0x40000000  # __WALL: threads too
WAIT_OWN = 0x20000000  # __WNOTHREAD: not the children of other threads


class Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [
        (name, ctypes.c_ulonglong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx"),
            *("rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base"),
            *("gs_base", "ds", "es", "fs", "gs"),
        )
    ]
    rip: int
    rsp: int


class SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info, at entry (number, arguments) and at exit (result in number)."""

    _fields_ = [
        ("op", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_int64),
        ("arguments", ctypes.c_uint64 * 6),
        ("rest", ctypes.c_uint64),
    ]
    op: int
    number: int
    arguments: Sequence[int]


@functools.cache
def _libc() -> Any:  # noqa: ANN401 - ctypes has no types for foreign functions
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return libc


def _call(request: int, tid: int, address: Any = None, data: Any = None) -> int:  # noqa: ANN401
    result: int = _libc().ptrace(request, tid, address, data)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def seize(pid: int) -> None:
    """Take a process in hand, without stopping it."""
    _call(_SEIZE, pid, None, _OPTIONS)


def interrupt(tid: int) -> None:
    """Stop a thread."""
    _call(_INTERRUPT, tid)


def go_on(tid: int, signal: int = 0, *, to_syscall: bool = False) -> None:
    """Let a stopped thread run, with a signal for it or none."""
    _call(_SYSCALL if to_syscall else _CONT, tid, None, signal)


def stay_stopped(tid: int) -> None:
    """Leave a thread in the stop that job control asked for."""
    _call(_LISTEN, tid)


def event_message(tid: int) -> int:
    """The new thread or process of a fork or clone event."""
    value = ctypes.c_ulong()
    _call(_GETEVENTMSG, tid, None, ctypes.addressof(value))
    return value.value


def registers(tid: int) -> Registers:
    """The registers of a stopped thread."""
    found = Registers()
    _call(_GETREGS, tid, None, ctypes.addressof(found))
    return found


def set_registers(tid: int, values: Registers) -> None:
    """Change them."""
    _call(_SETREGS, tid, None, ctypes.addressof(values))


def syscall_info(tid: int) -> SyscallInfo:
    """The system call that a thread is stopped at."""
    found = SyscallInfo()
    _call(_GET_SYSCALL_INFO, tid, ctypes.sizeof(found), ctypes.addressof(found))
    return found


def debug_register(tid: int, number: int) -> int:
    """A debug register of a stopped thread."""
    return _peek(_PEEKUSER, tid, _DEBUG_REGISTERS + 8 * number)


def _peek(request: int, tid: int, address: int) -> int:
    # glibc gives what was peeked as the result, and -1 may be a value.
    ctypes.set_errno(0)
    result: int = _libc().ptrace(request, tid, address, None)
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def write_byte(tid: int, address: int, data: bytes) -> None:
    """Change one byte of the memory of a stopped thread, by the word that it is in."""
    start = address & ~7
    word = bytearray((_peek(_PEEKDATA, tid, start) & 2**64 - 1).to_bytes(8, "little"))
    word[address - start] = data[0]
    _call(_POKEDATA, tid, start, int.from_bytes(word, "little"))


def set_debug_register(tid: int, number: int, value: int) -> None:
    """Change a debug register: an address in 0 to 3, what happened in 6, which are on in 7."""
    _call(_POKEUSER, tid, _DEBUG_REGISTERS + 8 * number, value)
