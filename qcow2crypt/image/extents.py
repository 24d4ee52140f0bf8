"""How ranges of a guest disk are stored: the extent.  Pure: knows no tables, files or keys."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
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


class Extent(NamedTuple):
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
        return self.kind in _ZEROS


_COMPRESSED = ExtentKind.COMPRESSED
_ZEROS = (ExtentKind.ZERO, ExtentKind.UNALLOCATED)
_BOUNDS_MAX = 256
_NEIGHBOURS_MAX = 512


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

    @property
    def cluster_size(self) -> int:
        """In bytes."""

    def runs_at(self, position: int, end: int) -> Sequence[Run]:
        """How the bytes from ``position`` on are stored: a run or more, one behind the other.

        At most up to ``end``, but perhaps less far: what is found in one step.  A compressed
        cluster is the only run; ``compressed_runs`` has more.  Raises MappingError for what is
        at ``position``.
        """

    def compressed_runs(self, position: int, end: int) -> list[CompressedRun]:
        """Where the data lies of the compressed cluster at ``position`` and of those behind it.

        At least one, and at most up to ``end`` and to the next cluster that is stored otherwise.
        """


def _compressed_neighbours(where: RunMap, run: Run, position: int, end: int) -> list[Run]:
    """``run``, the compressed cluster at ``position``, and those behind it.

    At most up to ``end``, and not too many at once.
    """
    found, stop, size = [run], run.stop, where.cluster_size
    for cluster in where.compressed_runs(position, min(end, position + _NEIGHBOURS_MAX * size))[1:]:
        stop += size
        found.append(Run(_COMPRESSED, cluster.host_offset, min(stop, end)))
    return found


def extents_of(where: RunMap, start: int, end: int) -> Iterator[Extent]:
    """The extents of ``start`` to ``end``, in order, without gaps, clipped to the range.

    Neighbours are merged while they are of one kind and, for DATA, consecutive in the file.
    A compressed cluster is always an extent of its own.  Raises MappingError.
    """
    for position, (kind, host, stop) in _joined(where, start, end):
        found = None if host is None else HostOffset(host)
        yield Extent(kind, GuestOffset(position), stop - position, found)


def _joined(where: RunMap, start: int, end: int) -> Iterator[tuple[int, Run]]:
    """The runs of ``start`` to ``end``, each with where it begins: as extents, but fast."""
    position = first = start
    waiting: Run | None = None
    follower: int | None = None
    while position < end:
        runs = where.runs_at(position, end)
        if runs[0].kind is _COMPRESSED and runs[0].stop < end:
            runs = _compressed_neighbours(where, runs[0], position, end)
        for run in runs:
            kind, host, stop = run
            if waiting is None:
                waiting = run
            elif kind is waiting.kind and host == follower and kind is not _COMPRESSED:
                waiting = Run(kind, waiting.host, stop)
            else:
                yield first, waiting
                first, waiting = position, run
            follower = None if host is None else host + stop - position
            position = stop
    if waiting is not None:
        yield first, waiting


class Stretch(NamedTuple):
    """Extents one behind the other which all read as zeros without a read, or all do not.

    ``bounds`` are the guest offsets where they begin, and where the last one ends.
    """

    reads_as_zero: bool
    bounds: list[int]


def stretches_of(where: RunMap, start: int, end: int) -> Iterator[Stretch]:
    """What ``extents_of`` gives, as stretches: for who needs no more than that."""
    runs = _joined(where, start, end)
    return _gathered(start, ((run.kind in _ZEROS, run.stop) for _, run in runs))


def as_stretches(start: int, extents: Iterable[Extent]) -> Iterator[Stretch]:
    """Extents from ``start`` on as stretches, in bounded memory."""
    ends = ((one.reads_as_zero, one.guest_offset + one.length) for one in extents)
    return _gathered(start, ends)


def _gathered(start: int, ends: Iterable[tuple[bool, int]]) -> Iterator[Stretch]:
    is_zero, bounds = False, [start]
    try:
        for zero, stop in ends:
            if (zero is not is_zero or len(bounds) > _BOUNDS_MAX) and len(bounds) > 1:
                yield Stretch(is_zero, bounds)
                bounds = [bounds[-1]]
            is_zero = zero
            bounds.append(stop)
    except Exception:  # comes after what precedes it
        if len(bounds) > 1:
            yield Stretch(is_zero, bounds)
        raise
    if len(bounds) > 1:
        yield Stretch(is_zero, bounds)


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
