"""qcow2 images with all there can be in one, and damage to their metadata, chosen by seed.

``random_image`` has QEMU make one.  ``damaged`` changes bytes that it finds by the format alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oracles.qemu_img import Disk, QemuImg

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COPIED = 1 << 63
_EXTENSION_BITMAPS = 0x23852875
_PIECES = (512, 4096, 65536, 100 << 10)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image has."""

    snapshots: bool
    bitmaps: bool


def random_image(path: Path, qemu_img: QemuImg, seed: int) -> Shape:
    """Have QEMU make an image of random shape and content."""
    draw = random.Random(seed)
    version3 = draw.random() < 0.8
    extended = version3 and draw.random() < 0.25
    cluster = 16384 if extended else draw.choice([512, 512, 4096, 65536])
    bits = draw.choice([1, 2, 4, 8, 16, 16, 32, 64]) if version3 else 16
    size = draw.choice([1 << 20, 4 << 20] if extended else [99_840, 299_520, 1 << 20])
    options = {
        "cluster_size": cluster,
        "compat": "1.1" if version3 else "0.10",
        "refcount_bits": bits,
        "extended_l2": extended,
    }
    disk = Disk(path)
    qemu_img.create(disk, size, {key: value for key, value in options.items() if value})
    write(qemu_img, disk, draw, size, cluster)
    # qemu-img 7.2 loses the snapshots of an image that has bitmaps too when it repairs it.
    bitmaps = version3 and draw.random() < 0.25
    snapshots = not bitmaps and bits > 1 and draw.random() < 0.6
    for number in range(draw.randint(1, 2) if snapshots else 0):
        # Where the refcounts are narrow this may fail: then there is no such snapshot.
        qemu_img.run("snapshot", "-c", f"s{number}", path, check=False)
        write(qemu_img, disk, draw, size, cluster)
    if bitmaps:
        qemu_img.run("bitmap", "--add", "-g", "512", path, "b0")
        write(qemu_img, disk, draw, size, cluster)
    return Shape(snapshots, bitmaps)


def write(qemu_img: QemuImg, disk: Disk, draw: random.Random, size: int, cluster: int) -> None:
    """Some writes of all kinds."""
    commands = []
    for _ in range(draw.randint(1, 6)):
        start = draw.randrange(0, size, 512)
        length = min(draw.choice([*_PIECES, cluster]), size - start)
        commands.append(
            draw.choice(
                [
                    *[f"write -P {draw.randint(1, 255)} {start} {length}"] * 5,
                    f"write -z {start} {length}",
                    f"write -z -u {start} {length}",
                    f"discard {start} {length}",
                    f"write -c -P 7 {start // cluster * cluster} {cluster}",
                ]
            )
        )
    # A compressed write to a cluster that has data fails, and that is fine.
    qemu_img.qemu_io(disk, commands, check=False)


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
            *[lambda: self.entry("l2")] * 5,
            *[lambda: self.entry("l1")] * 2,
            *[lambda: self.entry("refcounts")] * 2,
            *[self.refcount] * 4,
            *[self.length, self.header, self.snapshot, self.bitmap],
            lambda: self.entry("shared"),
        ]
        for _ in range(self.draw.choice([1, 1, 1, 2, 3])):
            self.draw.choice(kinds)()
        return bytes(self.data)

    def put(self, offset: int, value: int, length: int = 8) -> None:
        if offset + length <= len(self.data):
            new = value & (1 << 8 * length) - 1
            self.data[offset : offset + length] = new.to_bytes(length, "big")

    def some_cluster(self) -> int:
        return self.draw.randrange(self.clusters + 3) * self.places.cluster

    def entry(self, kind: str) -> None:
        draw = self.draw
        every = [place for place in self.places.entries[kind] if place + 8 <= len(self.data)]
        used = [place for place in every if number(self.data, place)]
        if not every:
            return
        place = draw.choice(used if used and draw.random() < 0.75 else every)
        old = number(self.data, place)
        bit = draw.choice([0, 1, 5, 8, 9, 10, 12, 14, 16, 17, 32, 40, 55, 56, 61, 62, 63, 63, 63])
        self.put(
            place,
            draw.choice(
                [
                    *[old ^ 1 << bit] * 3,
                    *[old & _COPIED | self.some_cluster()] * 2,
                    _COPIED | self.some_cluster(),
                    old & _COPIED | draw.randrange(0, len(self.data) + 99, 512),
                    number(self.data, draw.choice(used)) if used else _COPIED,
                    draw.getrandbits(64),
                    0,
                ]
            ),
        )

    def refcount(self) -> None:
        size = self.places.cluster
        place = self.draw.choice(self.places.blocks)
        place += self.draw.randrange(min(size, max(2, 2 * self.clusters)))
        if place < len(self.data):
            old = self.data[place]
            self.data[place] = self.draw.choice([0, 1, 2, 255, old ^ 1, old ^ 16])

    def length(self) -> None:
        size = self.places.cluster
        cut = self.draw.choice([size, 2 * size, 512, self.draw.randrange(size)])
        if self.draw.random() < 0.5:
            self.data += bytes(cut)
        elif len(self.data) - cut > size:
            del self.data[-cut:]

    def header(self) -> None:
        # l1_size, l1_table_offset, refcount table, snapshots; features in version 3 only.
        fields = [(36, 4), (40, 8), (48, 8), (56, 4), (60, 4), (64, 8)]
        if number(self.data, 4, 4) == 3:
            fields += [(72, 8), (72, 8), (88, 8)]
        place, length = self.draw.choice(fields)
        old = number(self.data, place, length)
        bit = 1 << self.draw.choice([0, 1, 9, 16])
        self.put(place, self.draw.choice([old ^ bit, old + 1, self.some_cluster()]), length)

    def snapshot(self) -> None:
        if self.places.snapshots:
            fields = [(0, 8), (8, 4), (12, 2), (14, 2), (36, 4), (40, 8)]
            self.field(self.draw.choice(self.places.snapshots), fields)

    def bitmap(self) -> None:
        if self.places.bitmaps:
            fields = [(0, 8), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2), (20, 4)]
            self.field(self.places.bitmaps[0], fields)

    def field(self, start: int, fields: list[tuple[int, int]]) -> None:
        at, length = self.draw.choice(fields)
        old = number(self.data, start + at, length)
        bit = 1 << self.draw.randrange(8 * length)
        values = [0, 1, 8, self.places.cluster, old ^ bit, self.some_cluster()]
        self.put(start + at, self.draw.choice(values), length)
