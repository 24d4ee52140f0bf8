"""Pieces of a disk that are read together: where they are cut, and how many make a batch.

Pieces begin where requests of ``qemu-img convert`` do: that decides which zeros are found and where
clusters go, so the files come out the same.  Knows guest offsets; reads nothing.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qcow2crypt.image.extents import Stretch
from qcow2crypt.image.placed import Run
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down

PIECE = 2 << 20
"""qemu-img reads so much at a time."""
_APART = 512 << 10
"""So much at most in several ranges."""
_PIECES_MAX = 256
_SLAB = 16 << 20
"""So much is cut into pieces in one step."""


class Batch(NamedTuple):
    """Pieces that are read together, ``length`` bytes in all; ``ranges`` has neighbours as one.

    Both as runs in a buffer.  All before ``end`` is done when they are.
    """

    pieces: list[Run]
    ranges: list[Run]
    length: int
    end: int


def gathered(stretches: Iterable[Stretch]) -> Iterator[Batch]:
    """Small pieces together, up to the size of a large one where they are neighbours.

    ``stretches`` have the bounds of the pieces; one that reads as zeros only moves the end.
    """
    pieces: list[Run] = []
    ranges: list[Run] = []
    size = end = 0
    follower = -1
    for zero, bounds in stretches:
        if zero:
            end = bounds[-1]
            if not pieces:
                yield Batch([], [], 0, end)
            continue
        first, last = 0, len(bounds) - 1
        while first < last:
            start = bounds[first]
            # Ranges are written one by one, and in between threads would wait for each other.
            most = PIECE if follower in (start, -1) else _APART
            stop = bisect_right(bounds, start + most - size, first) - 1
            stop = min(stop, first + _PIECES_MAX - len(pieces))
            if stop <= first:
                yield Batch(pieces, ranges, size, end)
                pieces, ranges, size, follower = [], [], 0, -1
                continue
            shift = size - start
            pieces += [
                (GuestOffset(offset), offset + shift, behind - offset)
                for offset, behind in zip(
                    bounds[first:stop], bounds[first + 1 : stop + 1], strict=True
                )
            ]
            length = bounds[stop] - start
            if follower == start:
                before, at, done = ranges[-1]
                ranges[-1] = (before, at, done + length)
            else:
                ranges.append((GuestOffset(start), size, length))
            size += length
            end = follower = bounds[stop]
            first = stop
    if pieces:
        yield Batch(pieces, ranges, size, end)


def telling_bounds(bounds: list[int], sparse_size: int) -> list[int]:
    """Bounds of extents without those that do not change which zeros are left out.

    For a target in which it does not matter either where writes begin.  Where zeros are looked
    for in units of just the size that counts, all is the same whether what lies before and behind
    the bound of a unit is looked at together or not.
    """
    if not sparse_size:
        return [bounds[0], bounds[-1]]
    if sparse_size & (sparse_size - 1):
        return bounds
    unit = max(sparse_size, SECTOR_SIZE)
    return [bounds[0], *(at for at in bounds[1:-1] if at % unit), bounds[-1]]


def cut(ends: tuple[int, int], bounds: list[int]) -> Iterator[list[int]]:
    """Bounds of extents to bounds of pieces: cut where qemu-img begins anew, and at ``PIECE``.

    Its zeros and clusters are found per request.  ``ends`` are the ``Image.request_ends``.
    """
    reach, whole_clusters = ends
    start, end = bounds[0], bounds[-1]
    if (
        len(bounds) == 2  # one extent, which is often all there is
        and end - start <= PIECE
        and (end - 1) // reach == start // reach
        and not start < whole_clusters < end
    ):
        yield bounds
        return
    while start < end:
        first = align_down(start, reach)
        stop = min(end, first + max(reach, align_down(_SLAB, reach)))
        marks = bounds[bisect_right(bounds, start) : bisect_left(bounds, stop)]
        requests = {start, stop, *marks, *range(first + reach, stop, reach)}
        if start < whole_clusters < stop:
            requests.add(whole_clusters)
        yield from _pieces_of(sorted(requests), reach)
        start = stop


def _pieces_of(requests: list[int], reach: int) -> Iterator[list[int]]:
    """The bounds of requests, which are no longer than ``reach``, with those of their pieces."""
    if reach <= PIECE:
        yield requests
        return
    for first, end in itertools.pairwise(requests):
        for start in range(first, end, _SLAB):
            stop = min(end, start + _SLAB)
            yield [*range(start, stop, PIECE), stop]
