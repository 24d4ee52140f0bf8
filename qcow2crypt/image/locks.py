"""QEMU's image locks: who else may have an image file open, and for what.

A program that opens an image says on single bytes of the file what it does, and what it does
not let others do.  The bytes need not exist, nothing is written to them:

    byte 100 + p   held by everyone who uses permission p
    byte 200 + p   held by everyone who does not share permission p

All hold them with shared record locks, so many can.  To open, take your own bytes first, then
ask whether anyone else holds an opposite one: 200 + p for what you use, 100 + p for what you do
not share.  Of two that start at once, one or both are refused, and never none.

The locks are OFD locks (fcntl(2), "Open file description locks"): they belong to one ``open``,
so two of them in one process exclude each other too, and go with its last close.  Where there
are none (another system than Linux, some network file systems) there is no protection, as with
QEMU's ``locking=auto``.  The bytes and what each program takes were read off qemu-img, qemu-io
and qemu-nbd 7.2 at work.  Knows descriptors, nothing of formats.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from enum import IntEnum

from qcow2crypt.errors import ArgumentError, ImageLockedError, SourceError

AVAILABLE = sys.platform == "linux"

_USED, _NOT_SHARED = 100, 200  # where each row of bytes begins
_FLOCK = struct.Struct("hhqqi0q")  # struct flock of Linux: type, whence, start, length, pid
# The file system has no such locks, or no lock service.
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_REFUSED = (errno.EAGAIN, errno.EACCES)


class Permission(IntEnum):
    """What a user of an image may do with it.  The numbers are QEMU's."""

    CONSISTENT_READ = 0
    WRITE = 1
    WRITE_UNCHANGED = 2
    RESIZE = 3


def lock_bytes(
    *, writing: bool, resizing: bool = True, force_share: bool = False
) -> frozenset[int]:
    """The bytes that a user of an image holds, as QEMU's programs choose them.

    Readers and writers both let nobody else write.  ``force_share`` lets others do anything,
    and is for reading only: ArgumentError.
    """
    if force_share:
        if writing:
            raise ArgumentError("force_share is for reading: a writer never shares its image")
        return frozenset({_USED + Permission.CONSISTENT_READ})
    used = {Permission.CONSISTENT_READ}
    if writing:
        used |= {Permission.WRITE, Permission.RESIZE} if resizing else {Permission.WRITE}
    not_shared = {Permission.WRITE, Permission.RESIZE}
    return frozenset({_USED + p for p in used} | {_NOT_SHARED + p for p in not_shared})


def acquire(fd: int, name: str, wanted: frozenset[int], held: frozenset[int]) -> frozenset[int]:
    """Hold the bytes ``wanted`` on this open file, and no others; gives what is held then.

    ``held`` is what it holds so far, and still holds after an error.  Raises ImageLockedError
    when someone else uses the file in a way that excludes this, SourceError when the operating
    system cannot say.
    """
    added = wanted - held
    try:
        try:
            for byte in sorted(added):
                if not _take(fd, byte):
                    # No QEMU does this: some other program holds a lock for itself alone.
                    raise ImageLockedError(_message(name, byte, wanted, "has locked it"))
            for byte in sorted(map(_opposite, wanted)):
                if _is_held_elsewhere(fd, byte):
                    raise ImageLockedError(_message(name, byte, wanted, _USE[byte]))
        except BaseException:
            release(fd, added)
            raise
        release(fd, held - wanted)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return held
        raise SourceError(f"cannot lock '{name}': {error.strerror}") from error
    return wanted


_USE = {
    _USED + Permission.CONSISTENT_READ: "has it open for reading",
    _USED + Permission.WRITE: "has it open for writing",
    _USED + Permission.WRITE_UNCHANGED: "has it open for writing",
    _USED + Permission.RESIZE: "has it open for writing",
    _NOT_SHARED + Permission.CONSISTENT_READ: "has it open and lets nobody read it",
    _NOT_SHARED + Permission.WRITE: "has it open and lets nobody write to it",
    _NOT_SHARED + Permission.WRITE_UNCHANGED: "has it open and lets nobody write to it",
    _NOT_SHARED + Permission.RESIZE: "has it open and lets nobody change its size",
}


def _message(name: str, byte: int, wanted: frozenset[int], use: str) -> str:
    """What is held, by whom, and what to do about it."""
    writing = _USED + Permission.WRITE in wanted
    text = (
        f"'{name}' is in use: another program, such as a running virtual machine, or another "
        f"open file of this one, {use}. Stop or close that first"
    )
    if not writing and byte % 100 != Permission.CONSISTENT_READ:
        text += (
            ", or read it all the same with --force-share (force_share=True): parts of what is "
            "read may then be old and others new"
        )
    return text


def _opposite(byte: int) -> int:
    return byte + 100 if byte < _NOT_SHARED else byte - 100


if sys.platform == "linux":
    import fcntl

    def _flock(fd: int, command: int, kind: int, byte: int) -> int:
        """One fcntl call on one byte; the type of lock that it answers."""
        flock = _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)
        answer: int = _FLOCK.unpack(fcntl.fcntl(fd, command, flock))[0]
        return answer

    def _take(fd: int, byte: int) -> bool:
        try:
            _flock(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            raise
        return True

    def _is_held_elsewhere(fd: int, byte: int) -> bool:
        """A lock for itself alone would not be given: someone has one.  Own locks do not count."""
        return _flock(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) != fcntl.F_UNLCK

    def release(fd: int, held: frozenset[int]) -> None:
        """Let go of the bytes ``held``.  The last close of this open file does the same."""
        for byte in sorted(held):
            _flock(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)

else:

    def _take(_fd: int, _byte: int) -> bool:
        raise OSError(errno.ENOSYS, "no OFD locks here")

    def _is_held_elsewhere(_fd: int, _byte: int) -> bool:
        raise OSError(errno.ENOSYS, "no OFD locks here")

    def release(_fd: int, _held: frozenset[int]) -> None:
        """There is nothing to let go of."""
