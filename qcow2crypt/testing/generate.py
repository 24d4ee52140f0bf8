"""Random cases, all from one function: ``make_case``.

The same state of a ``random.Random`` and the same profile give the same case, on every machine.
Profiles say what the cases are about: a profile is a table of chances.  Knows cases alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from qcow2crypt.errors import ArgumentError
from qcow2crypt.testing.case import (
    Case,
    Discard,
    Fill,
    Layer,
    Operation,
    Resize,
    Snapshot,
    SnapshotAction,
    Write,
    WriteZeroes,
)
from qcow2crypt.testing.rules import SMALLEST_WITH_SUBCLUSTERS, tidy
from qcow2crypt.units import SECTOR_SIZE

_CLUSTERS = (512, 512, 1024, 2048, 4096, 4096, 16384, 65536, 65536, 262144, 2097152)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 ,'\"$\\-ABCüß€"
_SNAPSHOT_ACTIONS: tuple[SnapshotAction, ...] = ("create", "create", "create", "apply", "delete")
_LARGEST_DISK = 2 << 20
_LENGTHS = (1, 1, 2, 3, 7, 40, 200)


@dataclass(frozen=True, slots=True)
class Profile:
    """What the cases are like: chances from 0 to 1, and weights.

    ``depths``      how many layers, each as likely as the others
    ``encrypted``   chance that a layer is
    ``extended``    chance of subclusters
    ``compressed``  weight of compressed writes, where a plain write has 5
    ``snapshots``   weight of snapshots being made, applied or deleted
    ``old``         chance of version 2
    ``lowest``      formats of the lowest layer
    """

    name: str
    about: str
    depths: tuple[int, ...] = (1,)
    encrypted: float = 0.0
    extended: float = 0.0
    compressed: int = 0
    snapshots: int = 0
    old: float = 0.2
    external: float = 0.0
    lowest: tuple[str, ...] = ("qcow2",)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("aes", "one encrypted image", encrypted=1.0),
        Profile("plain", "one image without encryption", external=0.1),
        Profile(
            "chains",
            "overlays over backing files of all formats",
            depths=(2, 2, 3, 4),
            encrypted=0.5,
            lowest=("qcow2", "qcow2", "raw", "qcow"),
        ),
        Profile("snapshots", "internal snapshots", encrypted=0.5, snapshots=5),
        Profile("compressed", "compressed clusters", encrypted=0.3, compressed=8),
        Profile(
            "subclusters", "extended L2 entries", (1, 1, 2), encrypted=0.5, extended=1.0, old=0.0
        ),
        Profile(
            "all",
            "everything together",
            depths=(1, 1, 2, 2, 3),
            encrypted=0.5,
            extended=0.3,
            compressed=2,
            snapshots=1,
            external=0.1,
            lowest=("qcow2", "qcow2", "qcow2", "raw", "qcow"),
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of this name.  Raises ArgumentError."""
    if name not in PROFILES:
        raise ArgumentError(f"there is no profile '{name}'; there are: {', '.join(PROFILES)}")
    return PROFILES[name]


def make_case(choose: random.Random, profile: Profile | str = "all") -> Case:
    """A case that QEMU carries out.

    >>> make_case(random.Random(1), "aes") == make_case(random.Random(1), "aes")
    True
    """
    if isinstance(profile, str):
        profile = profile_named(profile)
    return tidy(_Maker(choose, profile).case())


def passphrase(choose: random.Random) -> str:
    """A passphrase that today's qemu-img takes: text of 0 to 24 bytes or so, often around 16."""
    length = choose.choice([0, 1, 7, 12, 15, 16, 17, 24, choose.randrange(25)])
    return "".join(choose.choice(_LETTERS) for _ in range(length))


class _Maker:
    """Makes one case.  What is done lies near what was done before, in this layer or below."""

    def __init__(self, choose: random.Random, profile: Profile) -> None:
        self._choose = choose
        self._profile = profile
        self._places: list[int] = []

    def case(self) -> Case:
        layers: list[Layer] = []
        for number in range(self._choose.choice(self._profile.depths)):
            layer = self._layer(lowest=not number)
            if layers and self._choose.random() < 0.5:
                layer = replace(layer, size=layers[-1].size)
            layers.append(replace(layer, operations=self._operations(layer)))
        return Case(tuple(layers))

    def _layer(self, *, lowest: bool) -> Layer:
        choose, profile = self._choose, self._profile
        secret = passphrase(choose) if choose.random() < profile.encrypted else None
        form = choose.choice(profile.lowest) if lowest else "qcow2"
        if form == "raw":
            return Layer(self._size(), "raw")
        if form == "qcow":
            return Layer(self._size(), "qcow", passphrase=secret)
        extended = choose.random() < profile.extended
        least = SMALLEST_WITH_SUBCLUSTERS if extended else SECTOR_SIZE
        old = choose.random() < profile.old
        return Layer(
            self._size(),
            version=2 if old and not extended else 3,
            cluster_size=choose.choice([size for size in _CLUSTERS if size >= least]),
            passphrase=secret,
            refcount_bits=choose.choice((16, 16, 16, 1, 2, 4, 8, 32, 64)),
            extended_l2=extended,
            compression_type="zstd" if choose.random() < 0.4 else "zlib",
            lazy_refcounts=choose.random() < 0.1,
            data_file=choose.random() < profile.external,
        )

    def _size(self) -> int:
        """Bytes of a disk: most are small, and few end where a cluster ends."""
        largest = self._choose.choice((40, 600, _LARGEST_DISK // SECTOR_SIZE))
        return SECTOR_SIZE * self._choose.randrange(1, largest)

    def _operations(self, layer: Layer) -> tuple[Operation, ...]:
        weights = {
            "write": 5,
            "compressed": self._profile.compressed,
            "zeroes": 2,
            "discard": 1,
            "snapshot": self._profile.snapshots,
            "resize": 1,
        }
        count = self._choose.randrange(1, 9)
        kinds = self._choose.choices(list(weights), list(weights.values()), k=count)
        return tuple(self._operation(kind, layer) for kind in kinds)

    def _operation(self, kind: str, layer: Layer) -> Operation:
        if kind == "snapshot":
            action = self._choose.choice(_SNAPSHOT_ACTIONS)
            return Snapshot(action, f"snap{self._choose.randrange(3)}")
        if kind == "resize":
            return Resize(self._size())
        units = [layer.cluster_size]
        if kind != "compressed":
            units += [SECTOR_SIZE, SECTOR_SIZE, max(SECTOR_SIZE, layer.cluster_size // 32)]
        offset, length = self._range(layer, self._choose.choice(units))
        if kind == "compressed":
            return Write(offset, length, self._fill(), compressed=True)
        if kind == "write":
            return Write(offset, length, self._fill())
        unmap = self._choose.random() < 0.5
        return Discard(offset, length) if kind == "discard" else WriteZeroes(offset, length, unmap)

    def _range(self, layer: Layer, unit: int) -> tuple[int, int]:
        """A part of the disk in whole units; often at or beside the border of an earlier one."""
        choose = self._choose
        last = layer.size // unit
        if self._places and choose.random() < 0.7:
            number = choose.choice(self._places) // unit + choose.choice((-2, -1, 0, 0, 1))
            offset = min(max(number, 0), last) * unit
        else:
            offset = choose.randrange(last + 1) * unit
        length = choose.choice(_LENGTHS) * unit
        self._places += [offset, offset + length]
        return offset, length

    def _fill(self) -> Fill:
        kind = self._choose.choice(("pattern", "numbers", "numbers", "random"))
        if kind == "pattern":
            return Fill("pattern", self._choose.randrange(256))
        if kind == "random":
            return Fill("random", self._choose.randrange(1000))
        return Fill("numbers", self._choose.randrange(100_000))
