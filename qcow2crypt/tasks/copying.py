"""Copy a range of a guest disk to the start of a new image: the work of ``dd``.

Every byte of the range is stored, zeros too, as ``qemu-img dd`` does; ``convert`` is what leaves
them out.  Memory stays bounded: one piece at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import Image
from qcow2crypt.targetdevice import open_target
from qcow2crypt.tasks.creation import Target, TargetFormat, disk_writer
from qcow2crypt.tasks.sourcefiles import refuse_sources
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_up

Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20


def copy_range(
    source: Image,
    target: Target,
    *,
    start: int = 0,
    length: int | None = None,
    target_format: TargetFormat = "raw",
    progress: Progress | None = None,
) -> None:
    """Copy ``length`` guest bytes from ``start`` on (None: up to the end) to a new image.

    The new disk is that long, rounded up to a whole sector with zeros.  ``source`` stays open.
    The target appears whole or not at all, and must not be a file of the source.  Raises
    ArgumentError for a range outside the disk, TargetError, and what reading raises.
    """
    end = source.size if length is None else start + length
    if not 0 <= start <= end <= source.size:
        raise ArgumentError(
            f"guest range {start} to {end} is not inside the disk of {source.size} bytes"
        )
    with open_target(target) as file:
        refuse_sources([source], file)
        size = end - start
        writer = disk_writer(file, size, target_format, None, secret=None, engine=None)
        for offset in range(0, size, _PIECE):
            if progress:
                progress(offset, size)
            count = min(_PIECE, size - offset)
            piece = source.pread(count, start + offset)
            writer.write(GuestOffset(offset), piece.ljust(align_up(count, SECTOR_SIZE), b"\0"))
        writer.finish()
        file.commit()
        if progress:
            progress(size, size)
