"""A program, not a test: run the command line where the system refuses some calls.

``python refusing.py NUMBER[,NUMBER] WORDS...``: these system calls of x86-64 fail with EPERM, as a
container makes them fail, by a seccomp filter; follows seccomp(2).
"""

from __future__ import annotations

import ctypes
import struct
import sys

PTRACE, PERF_EVENT_OPEN = 101, 298
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("rows", ctypes.c_char_p)]


def refuse(numbers: list[int]) -> None:
    """From now on, for this process and all that it starts."""
    rows = [struct.pack("<HBBI", _LOAD, 0, 0, 0)]  # the number of the call
    for number in numbers:
        rows.append(struct.pack("<HBBI", _JUMP_IF_EQUAL, 0, 1, number))
        rows.append(struct.pack("<HBBI", _RETURN, 0, 0, _EPERM))
    rows.append(struct.pack("<HBBI", _RETURN, 0, 0, _ALLOW))
    program = _Filter(len(rows), b"".join(rows))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), zero, zero):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse([int(word) for word in sys.argv[1].split(",")])

    from qcow2crypt.cli import main

    sys.exit(main(sys.argv[2:]))
