"""How ranges of a guest disk are stored: the extent.  Pure: knows no tables, files or keys."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from qcow2crypt.units import GuestOffset, HostOffset


class ExtentKind(enum.Enum):
    """How a range of the guest disk is stored."""

    DATA = "data"
    """Stored as it is, or encrypted where the image is encrypted."""
    ZERO = "zero"
    """Reads as zeros: marked so in the tables, or a hole; nothing is read or decrypted."""
    UNALLOCATED = "unallocated"
    """Not stored: reads as zeros, or is for the backing file to say (``own_extents``)."""
    COMPRESSED = "compressed"
    """One compressed cluster.  Stored in clear, in encrypted images too."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` guest bytes from ``guest_offset`` on, stored in one way.

    ``host_offset`` is where the first of them lies in the file: for DATA always, for ZERO and
    UNALLOCATED where a host cluster is kept for it (in a raw image: the hole), for COMPRESSED
    the first compressed byte; else None.  ``depth`` is the layer that says so: 0 the image
    itself, 1 its backing file, and so on; the last layer for what no layer has.
    """

    kind: ExtentKind
    guest_offset: GuestOffset
    length: int
    host_offset: HostOffset | None = None
    depth: int = 0

    @property
    def reads_as_zero(self) -> bool:
        """True where the guest sees zeros without a byte being read.

        For an UNALLOCATED extent of ``own_extents`` that holds only if there is no backing file.
        """
        return self.kind in (ExtentKind.ZERO, ExtentKind.UNALLOCATED)


class Run(NamedTuple):
    """From a guest offset up to ``stop`` everything is stored in one way.

    ``host`` as in ``Extent.host_offset``.
    """

    kind: ExtentKind
    host: int | None
    stop: int


class CompressedRun(NamedTuple):
    """Where the bytes of one compressed cluster lie: ``length`` bytes at ``host_offset``."""

    host_offset: int
    length: int


class RunMap(Protocol):
    """The guest-to-host map of one layer."""

    def run_at(self, position: int, end: int) -> Run:
        """How the byte at ``position`` is stored, and up to where the same holds; at most ``end``.

        A compressed cluster is a run of its own.  Raises MappingError.
        """

    def compressed_runs(self, position: int, end: int) -> list[CompressedRun]:
        """Where the data lies of the compressed cluster at ``position`` and of those behind it.

        At least one, and at most up to ``end`` and to the next cluster that is stored otherwise.
        """


_JOINED_MAX = 16 << 20
"""So many bytes of compressed clusters are one extent at most, where they are joined."""


def extents_of(where: RunMap, start: int, end: int, joined: int = 0) -> Iterator[Extent]:
    """The extents of ``start`` to ``end``, in order, without gaps, clipped to the range.

    Neighbours are merged while they are of one kind and, for DATA, consecutive in the file.
    A compressed cluster is an extent of its own, but with the size of a cluster for ``joined``
    many of them are one, with the host offset of the first.  Raises MappingError.
    """
    return merged(_runs(where, start, end, joined))


def _runs(where: RunMap, start: int, end: int, joined: int) -> Iterator[Extent]:
    position = start
    while position < end:
        kind, host, stop = where.run_at(position, end)
        if joined and kind is ExtentKind.COMPRESSED and stop < end:
            more = where.compressed_runs(position, min(end, position + _JOINED_MAX))
            stop = min(end, stop + (len(more) - 1) * joined)
        found = None if host is None else HostOffset(host)
        yield Extent(kind, GuestOffset(position), stop - position, found)
        position = stop


def merged(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The same extents, neighbours as one where they are of one kind, layer and run in the file.

    A compressed cluster stays an extent of its own.
    """
    waiting: Extent | None = None
    for extent in extents:
        if waiting is None:
            waiting = extent
        elif _continues(waiting, extent):
            length = waiting.length + extent.length
            waiting = Extent(
                waiting.kind, waiting.guest_offset, length, waiting.host_offset, waiting.depth
            )
        else:
            yield waiting
            waiting = extent
    if waiting is not None:
        yield waiting


def _continues(first: Extent, second: Extent) -> bool:
    if first.kind is not second.kind or first.depth != second.depth:
        return False
    if first.kind is ExtentKind.COMPRESSED:
        return False
    if first.host_offset is None or second.host_offset is None:
        return first.host_offset is second.host_offset
    return first.host_offset + first.length == second.host_offset
