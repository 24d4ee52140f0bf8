"""Read past errors: what cannot be read becomes zeros, and is written down.

A range that cannot be read is halved until the sectors are found that are at fault; so as much as
possible is saved, as with ``qemu-img convert --salvage``.  Knows images, no formats.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from qcow2crypt.errors import FormatError, MappingError, SourceError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_up

_STEP = 2 << 20
"""So much counts as data where nothing can be said of it; reading it tells more."""

Extents = Callable[[int, int], Iterator[Extent]]
"""The extents of a range: start and length."""


class Loss(NamedTuple):
    """A guest range of a source that could not be read, and why: ``length`` bytes of zeros."""

    image: str
    guest_offset: int
    length: int
    reason: str


class Salvager:
    """Reads images past errors.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._losses: list[Loss] = []

    def preadinto(self, image: Image, view: memoryview, offset: int) -> None:
        """Fill ``view`` with whole sectors of an image, with zeros where it cannot be read."""
        try:
            image.preadinto(view, offset)
        except (FormatError, SourceError) as error:
            length = view.nbytes
            if length <= SECTOR_SIZE:
                view[:] = bytes(length)
                with self._lock:
                    self._losses.append(Loss(image.name, offset, length, str(error)))
                return
            half = align_up(length // 2, SECTOR_SIZE)
            self.preadinto(image, view[:half], offset)
            self.preadinto(image, view[half:], offset + half)

    def extents(self, extents: Extents, start: int, end: int) -> Iterator[Extent]:
        """The extents of a range; what the tables cannot tell counts as data."""
        position, stop = start, end
        while position < end:
            position, stop = yield from _some(extents, position, stop, end)

    def losses(self) -> tuple[Loss, ...]:
        """What could not be read, in guest order for each image; neighbours as one."""
        merged: list[Loss] = []
        with self._lock:
            ordered = sorted(self._losses, key=lambda one: (one.image, one.guest_offset))
        for loss in ordered:
            last = merged[-1] if merged else None
            if (
                last is not None
                and last.image == loss.image
                and last.guest_offset + last.length == loss.guest_offset
            ):
                merged[-1] = last._replace(length=last.length + loss.length)
            else:
                merged.append(loss)
        return tuple(merged)


def _some(
    extents: Extents, position: int, stop: int, end: int
) -> Generator[Extent, None, tuple[int, int]]:
    """The extents up to ``stop``, or to an error.  Gives where to go on, and up to where."""
    try:
        for extent in extents(position, stop - position):
            yield extent
            position = extent.guest_offset + extent.length
    except (FormatError, SourceError) as error:
        bad = error.guest_offset if isinstance(error, MappingError) else None
        if bad is not None and position < bad < stop:
            return position, bad  # all before it can be told
        length = min(_STEP, end - position)
        yield Extent(ExtentKind.DATA, GuestOffset(position), length)
        position += length
    return position, end
