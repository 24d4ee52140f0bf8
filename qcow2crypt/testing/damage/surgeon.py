"""Damage to the metadata of a sound qcow2 image, chosen by seed.

Finds tables and entries by the format document alone, and changes one to three of them: entries,
refcounts, fields of the header, of snapshots and of bitmaps, the length of the file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COPIED = 1 << 63
_EXTENSION_BITMAPS = 0x23852875


def damage_metadata(data: bytes, seed: int) -> bytes:
    """``data``, a sound qcow2 image, with one to three damages to its metadata."""
    return Surgeon(data, seed).damage()


@dataclass(slots=True)
class Places:
    """Where the entries of the tables are, by kind, and the size of a cluster."""

    cluster: int
    entries: dict[str, list[int]] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)
    bitmaps: list[int] = field(default_factory=list)


def number(data: bytes | bytearray, offset: int, length: int = 8) -> int:
    """A big-endian number in the file."""
    return int.from_bytes(data[offset : offset + length], "big")


def places(data: bytes) -> Places:
    """Find the tables of a sound image."""
    cluster = 1 << number(data, 20, 4)
    found = Places(cluster)
    l1 = [number(data, 40) + 8 * i for i in range(number(data, 36, 4))]
    table, clusters = number(data, 48), number(data, 56, 4)
    refcounts = [table + 8 * i for i in range(clusters * cluster // 8)]
    found.blocks = [number(data, place) for place in refcounts if number(data, place)]
    shared: list[int] = []
    offset = number(data, 64)
    for _ in range(number(data, 60, 4)):
        found.snapshots.append(offset)
        shared += [number(data, offset) + 8 * i for i in range(number(data, offset + 8, 4))]
        length = sum(number(data, offset + at, n) for at, n in ((12, 2), (14, 2), (36, 4)))
        offset += -(-(40 + length) // 8) * 8
    tables = {number(data, place) & _OFFSET for place in (*l1, *shared)} - {0}
    l2 = [start + 8 * i for start in sorted(tables) for i in range(cluster // 8)]
    found.entries = {"l1": l1, "l2": l2, "refcounts": refcounts, "shared": shared or l1}
    if number(data, 4, 4) == 3:
        at = number(data, 100, 4)
        while kind := number(data, at, 4):
            if kind == _EXTENSION_BITMAPS:
                found.bitmaps = [number(data, at + 24)]
            at += 8 + -(-number(data, at + 4, 4) // 8) * 8
    return found


class Surgeon:
    """Damages one image, one to three times."""

    def __init__(self, data: bytes, seed: int) -> None:
        self.draw = random.Random(seed)
        self.data = bytearray(data)
        self.places = places(data)
        self.clusters = len(data) // self.places.cluster

    def damage(self) -> bytes:
        """The image with damage."""
        kinds: list[Callable[[], None]] = [
            *[lambda: self._entry("l2")] * 5,
            *[lambda: self._entry("l1")] * 2,
            *[lambda: self._entry("refcounts")] * 2,
            *[self._refcount] * 4,
            *[self._length, self._header, self._snapshot, self._bitmap],
            lambda: self._entry("shared"),
        ]
        for _ in range(self.draw.choice([1, 1, 1, 2, 3])):
            self.draw.choice(kinds)()
        return bytes(self.data)

    def _put(self, offset: int, value: int, length: int = 8) -> None:
        if offset + length <= len(self.data):
            new = value & (1 << 8 * length) - 1
            self.data[offset : offset + length] = new.to_bytes(length, "big")

    def _some_cluster(self) -> int:
        return self.draw.randrange(self.clusters + 3) * self.places.cluster

    def _entry(self, kind: str) -> None:
        draw = self.draw
        every = [place for place in self.places.entries[kind] if place + 8 <= len(self.data)]
        used = [place for place in every if number(self.data, place)]
        if not every:
            return
        place = draw.choice(used if used and draw.random() < 0.75 else every)
        old = number(self.data, place)
        bit = draw.choice([0, 1, 5, 8, 9, 10, 12, 14, 16, 17, 32, 40, 55, 56, 61, 62, 63, 63, 63])
        self._put(
            place,
            draw.choice(
                [
                    *[old ^ 1 << bit] * 3,
                    *[old & _COPIED | self._some_cluster()] * 2,
                    _COPIED | self._some_cluster(),
                    old & _COPIED | draw.randrange(0, len(self.data) + 99, 512),
                    number(self.data, draw.choice(used)) if used else _COPIED,
                    draw.getrandbits(64),
                    0,
                ]
            ),
        )

    def _refcount(self) -> None:
        size = self.places.cluster
        place = self.draw.choice(self.places.blocks)
        place += self.draw.randrange(min(size, max(2, 2 * self.clusters)))
        if place < len(self.data):
            old = self.data[place]
            self.data[place] = self.draw.choice([0, 1, 2, 255, old ^ 1, old ^ 16])

    def _length(self) -> None:
        size = self.places.cluster
        cut = self.draw.choice([size, 2 * size, 512, self.draw.randrange(size)])
        if self.draw.random() < 0.5:
            self.data += bytes(cut)
        elif len(self.data) - cut > size:
            del self.data[-cut:]

    def _header(self) -> None:
        # l1_size, l1_table_offset, refcount table, snapshots; features in version 3 only.
        fields = [(36, 4), (40, 8), (48, 8), (56, 4), (60, 4), (64, 8)]
        if number(self.data, 4, 4) == 3:
            fields += [(72, 8), (72, 8), (88, 8)]
        place, length = self.draw.choice(fields)
        old = number(self.data, place, length)
        bit = 1 << self.draw.choice([0, 1, 9, 16])
        self._put(place, self.draw.choice([old ^ bit, old + 1, self._some_cluster()]), length)

    def _snapshot(self) -> None:
        if self.places.snapshots:
            fields = [(0, 8), (8, 4), (12, 2), (14, 2), (36, 4), (40, 8)]
            self._field(self.draw.choice(self.places.snapshots), fields)

    def _bitmap(self) -> None:
        if self.places.bitmaps:
            fields = [(0, 8), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2), (20, 4)]
            self._field(self.places.bitmaps[0], fields)

    def _field(self, start: int, fields: list[tuple[int, int]]) -> None:
        at, length = self.draw.choice(fields)
        old = number(self.data, start + at, length)
        bit = 1 << self.draw.randrange(8 * length)
        values = [0, 1, 8, self.places.cluster, old ^ bit, self._some_cluster()]
        self._put(start + at, self.draw.choice(values), length)
