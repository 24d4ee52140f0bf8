"""A disk that remembers every write, and what it may hold after the power fails.

``RecordingFile`` is a file object in memory with a log of writes, truncations and flushes.
``Journal`` gives the bytes that a disk may hold when it stops at one point of the log: all that
was written before the last flush, and of what came later any part, torn between sectors.
A sector itself is old or new, and of two writes to one sector the later one wins.

Knows bytes and no formats.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

SECTOR = 512


@dataclass(frozen=True)
class Write:
    """Bytes that were written at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """The length of the file was set."""

    size: int


@dataclass(frozen=True)
class Flush:
    """A barrier."""


Event = Write | Truncate | Flush


class RecordingFile(io.BytesIO):
    """A file in memory that writes down what is done to it.

    ``refuse`` is asked before each event; the OSError that it raises is what the caller sees.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.events: list[Event] = []
        self.refuse: Callable[[Event], None] = lambda _event: None

    def write(self, data: object, /) -> int:
        """Write at the cursor."""
        copy = bytes(data)  # type: ignore[call-overload]
        self._note(Write(self.tell(), copy))
        return super().write(copy)

    def truncate(self, size: int | None = None, /) -> int:
        """Shrink: a BytesIO does not grow by this."""
        size = self.tell() if size is None else size
        if size < len(self.getbuffer()):
            self._note(Truncate(size))
        return super().truncate(size)

    def flush(self) -> None:
        """A barrier."""
        if not self.closed:
            self._note(Flush())

    def _note(self, event: Event) -> None:
        self.refuse(event)
        self.events.append(event)


class Journal:
    """All that happened to a file which first held ``base``."""

    def __init__(self, base: bytes, events: list[Event]) -> None:
        self.base = base
        self.events = events

    def prefix(self, point: int) -> bytes:
        """The disk after the first ``point`` events, in order."""
        disk = bytearray(self.base)
        for event in self.events[:point]:
            _apply(disk, event)
        return bytes(disk)

    def settled(self, point: int) -> int:
        """How many of the first ``point`` events are on the disk for certain."""
        flushes = (at for at in range(point - 1, -1, -1) if isinstance(self.events[at], Flush))
        return next(flushes, -1) + 1

    def alone(self, number: int) -> bytes:
        """The disk when of what came after the last flush only event ``number`` is on it."""
        disk = bytearray(self.prefix(self.settled(number)))
        _apply(disk, self.events[number])
        return bytes(disk)

    def part(self, point: int, rng: random.Random) -> bytes:
        """The disk after ``point`` events when, since the last flush, chance had its way."""
        settled = self.settled(point)
        disk = bytearray(self.prefix(settled))
        rest = self.events[settled:point]
        missing = rng.randrange(len(rest)) if rest and rng.random() < 0.3 else None
        torn = rng.random() < 0.5
        for number, event in enumerate(rest):
            if number != missing if missing is not None else rng.random() < 0.5:
                _apply(disk, event)
            elif torn and isinstance(event, Write):
                for sector in _sectors(event):
                    if rng.random() < 0.5:
                        _apply(disk, sector)
        return bytes(disk)


def _sectors(write: Write) -> list[Write]:
    """The same write, cut at the borders of sectors."""
    parts = []
    at = 0
    while at < len(write.data):
        length = SECTOR - (write.offset + at) % SECTOR
        parts.append(Write(write.offset + at, write.data[at : at + length]))
        at += length
    return parts


def _apply(disk: bytearray, event: Event) -> None:
    if isinstance(event, Truncate):
        del disk[event.size :]
    elif isinstance(event, Write):
        end = event.offset + len(event.data)
        if len(disk) < end:
            disk.extend(bytes(end - len(disk)))
        disk[event.offset : end] = event.data
