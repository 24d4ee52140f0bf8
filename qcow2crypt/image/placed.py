"""Which parts of a buffer go where in a file: what is decided in order and written in any.

Knows numbers and bytes; knows no format.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeAlias

from qcow2crypt.units import GuestOffset, ReadBuffer

Run: TypeAlias = tuple[GuestOffset, int, int]
"""Guest offset, position in the buffer, length."""


class _Target(Protocol):
    def pwrite(self, data: ReadBuffer, offset: int) -> None: ...

    def pwritev(self, parts: Sequence[ReadBuffer], offset: int) -> None: ...


class Placed(NamedTuple):
    """``runs`` of the guest, the ``parts`` that they are stored in, and tables that go with them.

    A part is (host offset, position in the buffer, length), a table (host offset, bytes); views
    are of bytes.
    Neighbours that go on in the same way are one.
    """

    runs: list[Run]
    parts: list[tuple[int, int, int]]
    tables: list[tuple[int, ReadBuffer]]

    def add_run(self, offset: int, at: int, length: int) -> None:
        """Add a run behind the last one."""
        if self.runs:
            before, place, size = self.runs[-1]
            if before + size == offset and place + size == at:
                self.runs[-1] = (before, place, size + length)
                return
        self.runs.append((GuestOffset(offset), at, length))

    def add_part(self, host: int, at: int, length: int) -> None:
        """Add a part of the buffer behind the last one."""
        if self.parts:
            before, place, size = self.parts[-1]
            if before + size == host and place + size == at:
                self.parts[-1] = (before, place, size + length)
                return
        self.parts.append((host, at, length))


def write_parts(target: _Target, parts: Sequence[tuple[int, ReadBuffer]]) -> None:
    """Write (host offset, bytes) in as few calls as can be."""
    waiting: list[ReadBuffer] = []
    end = -1
    for host, data in sorted(parts, key=itemgetter(0)):
        if host != end and waiting:
            _write(target, waiting, end)
            waiting = []
        waiting.append(data)
        end = host + len(data)
    if waiting:
        _write(target, waiting, end)


def _write(target: _Target, parts: list[ReadBuffer], end: int) -> None:
    """Write parts that lie one behind the other, up to ``end``."""
    offset = end - sum(map(len, parts))
    if len(parts) == 1:
        target.pwrite(parts[0], offset)
    else:
        target.pwritev(parts, offset)
