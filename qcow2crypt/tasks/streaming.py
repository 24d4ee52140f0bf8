"""Write guest disks to a stream that only goes forward, such as a pipe.

Joins the copying to a descriptor.  What is written is raw: every byte, zeros too, in order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from qcow2crypt.errors import TargetError
from qcow2crypt.image.base import Image
from qcow2crypt.tasks.filling import Filler, Progress
from qcow2crypt.tasks.manner import USUAL, Manner
from qcow2crypt.units import GuestOffset, ReadBuffer
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE

_ZEROS = bytes(1 << 20)


def stream(
    images: Sequence[Image],
    descriptor: int,
    *,
    progress: Progress | None = None,
    manner: Manner = USUAL,
) -> int:
    """Write the disks of ``images``, one behind the other, to ``descriptor``, which stays open.

    Gives the number of bytes.  What was written before an error stays written: a reader must
    look at the exit code of the writer.  Raises TargetError, BrokenPipeError when nobody reads
    any more, and what reading raises.
    """
    size = sum(image.size for image in images)
    writer = _StreamWriter(descriptor, size)
    # All in this thread: a signal must end a write to a pipe that nobody reads.
    alone = manner._replace(threads=1)
    Filler(DEFAULT_SPARSE_SIZE, progress, size, alone).copy_all(images, writer)
    writer.finish()
    return size


class _StreamWriter:
    """A ``DiskWriter`` that fills what is left out with zeros."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._position = 0

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        self._fill(offset)
        self._write(memoryview(data).cast("B"))

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        self._fill(offset + length)

    def finish(self) -> None:
        self._fill(self._size)

    def _fill(self, end: int) -> None:
        while self._position < end:
            self._write(memoryview(_ZEROS)[: end - self._position])

    def _write(self, view: memoryview) -> None:
        try:
            done = 0
            while done < view.nbytes:
                done += os.write(self._descriptor, view[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"at guest offset {self._position + done:#x}"
            raise TargetError(f"cannot write to the stream {where}: {error.strerror}") from error
        self._position += view.nbytes
