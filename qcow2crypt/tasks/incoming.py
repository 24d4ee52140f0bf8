"""Read a disk from a stream that only goes forward, such as a pipe, piece by piece.

Knows a descriptor and bytes, nothing of images.  A thread that waits for bytes can be told to
wait no longer: nobody knows when the other end of a pipe writes.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from qcow2crypt.errors import SourceError
from qcow2crypt.units import SECTOR_SIZE

PIECE = 2 << 20
"""qemu-img reads so much at a time; a power of two."""
_PIPE_BYTES = 1 << 20
"""What Linux gives a pipe that asks; 64 KiB is what it has without."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes at ``offset`` of the disk, whole sectors, in a buffer to give back."""

    offset: int
    length: int
    buffer: bytearray


class Incoming:
    """The stream that ``descriptor`` reads; it stays its owner's.  A context manager.

    ``size`` is how many bytes have come.  What does not fill the last sector is filled up with
    zeros, as for a raw file.  Raises SourceError.
    """

    def __init__(self, descriptor: int, name: str = "standard input") -> None:
        self.name = name
        self.size = 0
        self.ended = False
        self._descriptor = descriptor
        self._free: list[bytearray] = []
        self._first: Piece | None = None
        self._woken, self._wake = os.pipe()
        self._poll = None
        if hasattr(select, "poll"):  # not on Windows, where a read cannot be ended
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN | select.POLLHUP)
            self._poll.register(self._woken, select.POLLIN)
        _widen(descriptor)

    def peek(self) -> Piece:
        """The first piece, which ``pieces`` gives again.  ``ended`` tells if it is all."""
        if self._first is None:
            self._first = self._next()
        return self._first

    def pieces(self) -> Iterator[Piece]:
        """Full pieces, and a last one that may be shorter; none for what is empty."""
        piece = self.peek()
        while piece.length:
            yield piece
            if self.ended:
                return
            piece = self._next()

    def give_back(self, piece: Piece) -> None:
        """The bytes of a piece are needed no more."""
        self._free.append(piece.buffer)

    def give_up(self) -> None:
        """Whoever waits for bytes gets none any more.  Any thread may call it, and again."""
        self.ended = True
        os.write(self._wake, b".")

    def _next(self) -> Piece:
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(PIECE)
        offset, done = self.size, 0
        with memoryview(buffer) as view:
            while done < PIECE:
                count = self._read(view[done:])
                if not count:
                    self.ended = True
                    break
                done += count
            self.size += done
            length = done + -done % SECTOR_SIZE
            view[done:length] = bytes(length - done)
        return Piece(offset, length, buffer)

    def _read(self, view: memoryview) -> int:
        """Some bytes; 0 at the end."""
        while not self.ended:
            try:
                if self._poll is not None:
                    self._poll.poll()
                    if self.ended:
                        break
                if hasattr(os, "readv"):
                    return os.readv(self._descriptor, [view])
                data = os.read(self._descriptor, view.nbytes)
                view[: len(data)] = data
                return len(data)
            except BlockingIOError:
                continue
            except OSError as error:
                raise SourceError(
                    f"cannot read {self.name} after {self.size} bytes: {error.strerror}"
                ) from error
        return 0

    def close(self) -> None:
        """Close what belongs to this object; the stream stays open."""
        for descriptor in (self._woken, self._wake):
            os.close(descriptor)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _widen(descriptor: int) -> None:
    """Let a pipe hold more, so that reader and writer wait for each other less often."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # no pipe, or not allowed
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
