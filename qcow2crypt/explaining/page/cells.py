"""Maps of few cells: the image file and the guest disk, and which cells belong together.

A cell is one cluster, or as many as it takes to need no more than ``CELLS_MAX`` of them.  Knows
regions and extents; reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcow2crypt.explaining.regions import GUEST_KINDS, Region, RegionKind
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.units import align_up, div_up

CELLS_MAX = 256
PARTS_MAX = 8
OF_A_SNAPSHOT = " of a snapshot"
_OF_A_DISK = (RegionKind.L1_TABLE, RegionKind.L2_TABLE, *GUEST_KINDS)
_MINOR = {kind.value for kind in (RegionKind.EXTENSION, RegionKind.BACKING_NAME, RegionKind.REST)}
_MINOR |= {RegionKind.UNREFERENCED.value, ExtentKind.UNALLOCATED.value}
"""What shares a cell with that which it is there for: a cell with a little data shows data."""


@dataclass(slots=True)
class Cells:
    """``size`` bytes to a cell.  ``parts`` has for each cell how many bytes are of which kind.

    ``links`` has for each cell those of the other map that hold the same data.
    """

    total: int
    size: int
    parts: list[dict[str, int]] = field(init=False)
    links: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        count = div_up(self.total, self.size)
        self.parts = [{} for _ in range(count)]
        self.links = [set() for _ in range(count)]

    def add(self, kind: str, at: int, length: int) -> None:
        """``length`` bytes from ``at`` on are of a kind."""
        for place, part in self._cut(at, length):
            parts = self.parts[place]
            parts[kind] = parts.get(kind, 0) + part

    def _cut(self, at: int, length: int) -> Iterator[tuple[int, int]]:
        end = min(at + length, self.total)
        while at < end:
            place = at // self.size
            stop = min(end, (place + 1) * self.size)
            yield place, stop - at
            at = stop

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: offset, length, the kind that counts, all kinds, links."""
        return [
            {
                "at": place * self.size,
                "size": min(self.size, self.total - place * self.size),
                "kind": _main(parts),
                "parts": sorted(parts.items(), key=lambda part: -part[1])[:PARTS_MAX],
                "links": sorted(links),
            }
            for place, (parts, links) in enumerate(zip(self.parts, self.links, strict=True))
        ]


def cells_for(total: int, cluster_size: int) -> Cells:
    """Empty cells for ``total`` bytes."""
    size = align_up(max(div_up(total, CELLS_MAX), 1), cluster_size)
    return Cells(total, size)


def add_regions(cells: Cells, regions: Iterable[Region]) -> None:
    """Say what lies in the file, and of which of it only snapshots know."""
    for region in regions:
        kind = region.kind.value
        known = [claim.snapshot for claim in region.claims]
        if region.kind in _OF_A_DISK and known and None not in known:
            kind += OF_A_SNAPSHOT
        cells.add(kind, region.host_offset, region.length)


def link(disk: Cells, file: Cells, guest_offset: int, host_offset: int, length: int) -> None:
    """The same data: ``length`` bytes of the guest disk and of the file."""
    at = 0
    while at < length:
        guest, host = guest_offset + at, host_offset + at
        if guest >= disk.total or host >= file.total:
            return
        there, here = guest // disk.size, host // file.size
        disk.links[there].add(here)
        file.links[here].add(there)
        at += min((there + 1) * disk.size - guest, (here + 1) * file.size - host)


def _main(parts: dict[str, int]) -> str:
    """What most bytes are, of what a cell is there for."""
    order: Sequence[str] = sorted(parts, key=lambda kind: (kind in _MINOR, -parts[kind]))
    return order[0] if order else RegionKind.UNREFERENCED.value
