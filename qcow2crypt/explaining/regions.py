"""Regions of an image file: what the tables say lies where, cut where they say something else.

A *claim* is one statement of the tables: "here lies the L1 table", "here lies the guest cluster at
that offset".  Claims may overlap: snapshots share clusters, compressed clusters share sectors, and
damaged tables claim anything.  A *region* is a range of the file with its claims, and all bytes of
it have the same ones.  Pure: knows no file and no key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from qcow2crypt.units import align_down, align_up

SHOWN_MAX = 64
"""So many claims of one region are kept; ``Region.claims_left_off`` counts the others."""


class RegionKind(enum.Enum):
    """What lies in a range of an image file."""

    HEADER = "header"
    EXTENSION = "header extension"
    BACKING_NAME = "backing file name"
    REFCOUNT_TABLE = "refcount table"
    REFCOUNT_BLOCK = "refcount block"
    L1_TABLE = "L1 table"
    L2_TABLE = "L2 table"
    SNAPSHOT_TABLE = "snapshot table"
    BITMAP_DIRECTORY = "bitmap directory"
    BITMAP_TABLE = "bitmap table"
    BITMAP_DATA = "bitmap data"
    LUKS_HEADER = "LUKS header"
    DATA = "data"
    """Guest clusters as they are, or encrypted where the image is encrypted."""
    COMPRESSED = "compressed data"
    """One compressed guest cluster.  In clear, in encrypted images too."""
    ZERO_KEPT = "kept for zeros"
    """Guest clusters that read as zeros, marked so in their table, and keep their place."""
    REST = "unused rest"
    """No table says anything of these bytes, but of others of their cluster."""
    UNREFERENCED = "unreferenced"
    """Whole clusters that no table names: free, or leaked if their refcount is not 0."""
    NOT_LOOKED_AT = "not looked at"
    """No claim was met, but not all tables were looked at."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of the tables: ``length`` bytes at ``host_offset`` are ``kind``.

    ``about`` tells which one, for people.  ``guest_offset`` is where the first of the bytes stands
    on the guest disk (of a compressed cluster: where the cluster begins), for an L2 table the
    first that it maps; else None.  ``snapshot`` is the id of the snapshot whose disk that is, None
    for the active disk and for what belongs to no disk.
    """

    kind: RegionKind
    host_offset: int
    length: int
    about: str = ""
    guest_offset: int | None = None
    snapshot: str | None = None

    @property
    def end(self) -> int:
        """The host offset behind it."""
        return self.host_offset + self.length

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind.value,
            "host_offset": self.host_offset,
            "length": self.length,
            "about": self.about,
            "guest_offset": self.guest_offset,
            "snapshot": self.snapshot,
        }


@dataclass(frozen=True, slots=True)
class Region:
    """``length`` bytes at ``host_offset`` of which all the same ``claims`` are made.

    ``kind`` is that of the first claim; without any it is REST, UNREFERENCED or NOT_LOOKED_AT.
    ``refcount`` is what the file has for the cluster of the first byte, None where it has none.
    """

    kind: RegionKind
    host_offset: int
    length: int
    claims: tuple[Claim, ...] = ()
    claims_left_off: int = 0
    refcount: int | None = None

    @property
    def end(self) -> int:
        """The host offset behind it."""
        return self.host_offset + self.length

    def guest_offsets(self) -> tuple[tuple[str | None, int], ...]:
        """What of guest disks begins here: snapshot (None: active disk) and guest offset.

        For data that of the region's first byte, for a compressed cluster where the cluster begins.
        """
        found = []
        for claim in self.claims:
            if claim.guest_offset is not None and claim.kind in GUEST_KINDS:
                skipped = self.host_offset - claim.host_offset
                inside = 0 if claim.kind is RegionKind.COMPRESSED else skipped
                found.append((claim.snapshot, claim.guest_offset + inside))
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind.value,
            "host_offset": self.host_offset,
            "length": self.length,
            "refcount": self.refcount,
            "claims": [claim.to_dict() for claim in self.claims],
            "claims_left_off": self.claims_left_off,
        }


GUEST_KINDS = (RegionKind.DATA, RegionKind.COMPRESSED, RegionKind.ZERO_KEPT)
"""What holds, or would hold, bytes of a guest disk."""


def regions_of(
    claims: Iterable[Claim], start: int, end: int, cluster_size: int, *, complete: bool = True
) -> Iterator[Region]:
    """Cut ``start`` to ``end`` of a file into regions, in order and without gaps.

    ``complete``: the claims are all that there are, so what has none is known to have none.

    >>> claims = [Claim(RegionKind.HEADER, 0, 112), Claim(RegionKind.L1_TABLE, 1024, 8)]
    >>> [(r.kind.value, r.host_offset, r.length) for r in regions_of(claims, 0, 1536, 512)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('header', 0, 112), ('unused rest', 112, 400), ('unreferenced', 512, 512),
     ('L1 table', 1024, 8), ('unused rest', 1032, 504)]
    """
    opening: dict[int, list[Claim]] = {}
    edges = {end}
    for claim in claims:
        low, high = max(claim.host_offset, start), min(claim.end, end)
        if low < high:
            opening.setdefault(low, []).append(claim)
            edges |= {low, high}
    active: dict[int, Claim] = {}
    closing: list[tuple[int, int]] = []
    at, number = start, 0
    for edge in sorted(edges):
        if at < edge:
            if active:
                yield _claimed(active, at, edge)
            else:
                yield from _unclaimed(at, edge, cluster_size, last=edge == end, complete=complete)
            at = edge
        while closing and closing[0][0] <= edge:
            del active[heappop(closing)[1]]
        for claim in opening.get(edge, ()):
            active[number] = claim
            heappush(closing, (claim.end, number))
            number += 1


def _claimed(active: dict[int, Claim], at: int, end: int) -> Region:
    shown = tuple(islice(active.values(), SHOWN_MAX))
    return Region(shown[0].kind, at, end - at, shown, len(active) - len(shown))


def _unclaimed(
    at: int, end: int, cluster_size: int, *, last: bool, complete: bool
) -> Iterator[Region]:
    """What lies between two claims, or behind the ``last`` one."""
    free = RegionKind.UNREFERENCED if complete else RegionKind.NOT_LOOKED_AT
    first = min(align_up(at, cluster_size), end)
    then = end if last else max(first, align_down(end, cluster_size))
    for kind, low, high in (
        (RegionKind.REST, at, first),
        (free, first, then),
        (RegionKind.REST, then, end),
    ):
        if low < high:
            yield Region(kind, low, high - low)
