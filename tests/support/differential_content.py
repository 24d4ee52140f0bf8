"""Guest content for comparisons: random data with runs of zeros in every awkward place.

A layout has a name, so that a failing case can be named; the same (name, size, seed) always
gives the same bytes.  Data bytes are never zero, so a run of zeros is where the layout says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SECTOR = 512
_NO_ZERO = bytes.maketrans(b"\0", b"\1")
_AT_ONCE = 64 << 20  # randbytes gives less than 256 MiB at a time

Range = tuple[int, int]
"""(start, length) of a run of zeros, in bytes."""


def data_bytes(length: int, seed: int) -> bytes:
    """Random bytes without a zero."""
    numbers = random.Random(seed)
    parts = (min(_AT_ONCE, length - done) for done in range(0, length, _AT_ONCE))
    return b"".join(numbers.randbytes(part).translate(_NO_ZERO) for part in parts)


def content(layout: str, size: int, cluster_size: int, seed: int = 1) -> bytes:
    """A guest disk of ``size`` bytes in one of ``LAYOUTS``."""
    return with_zeros(size, LAYOUTS[layout](size, cluster_size, random.Random(seed)), seed)


def with_zeros(size: int, zeros: Sequence[Range], seed: int = 1) -> bytes:
    """A guest disk of data, with the given runs of zeros."""
    result = bytearray(data_bytes(size, seed))
    for start, length in zeros:
        stop = min(size, start + length)
        if start < stop:
            result[start:stop] = bytes(stop - start)
    return bytes(result)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Guest content that a failing example can show in one line."""

    size: int
    zeros: tuple[Range, ...] = ()
    seed: int = 1

    def content(self) -> bytes:
        """The bytes."""
        return with_zeros(self.size, self.zeros, self.seed)


def _none(_size: int, _cluster: int, _rng: random.Random) -> list[Range]:
    return []


def _all(size: int, _cluster: int, _rng: random.Random) -> list[Range]:
    return [(0, size)]


def _clusters(size: int, cluster: int, rng: random.Random) -> list[Range]:
    """Whole clusters, about half of them."""
    return [(at, cluster) for at in range(0, size, cluster) if rng.random() < 0.5]


def _aligned(size: int, _cluster: int, rng: random.Random) -> list[Range]:
    """Runs that begin and end on 4 KiB."""
    starts = [at for at in range(0, size, 4096) if rng.random() < _chance(size, 4096)]
    return [(at, 4096 * rng.randrange(1, 6)) for at in starts]


def _unaligned(size: int, _cluster: int, rng: random.Random) -> list[Range]:
    """Runs of any length from anywhere, down to single bytes."""
    return [(rng.randrange(size), rng.randrange(1, 20000)) for _ in range(24)] if size else []


def _tiny(size: int, _cluster: int, rng: random.Random) -> list[Range]:
    """One to eight sectors: some are skipped, some not."""
    starts = [at for at in range(0, size, SECTOR) if rng.random() < _chance(size, SECTOR)]
    return [(at, SECTOR * rng.randrange(1, 9)) for at in starts]


def _borders(size: int, cluster: int, rng: random.Random) -> list[Range]:
    """Runs across cluster borders, a little more or less than 4 KiB."""
    lengths = (3584, 4096, 4608, 8192, cluster - SECTOR, cluster, cluster + SECTOR)
    runs = []
    for at in range(cluster, size, 3 * cluster):
        length = max(SECTOR, rng.choice(lengths))
        runs.append((max(0, at - rng.randrange(0, length, SECTOR)), length))
    return runs


def _only_first(size: int, _cluster: int, _rng: random.Random) -> list[Range]:
    """One byte at the start of the disk, nothing else."""
    return [(1, size)]


def _only_last(size: int, _cluster: int, _rng: random.Random) -> list[Range]:
    """One byte at the end of the disk, nothing else."""
    return [(0, size - 1)] if size else []


def _chance(size: int, unit: int) -> float:
    """About sixty runs, whatever the size."""
    return min(0.2, 60 * unit / max(size, 1))


LAYOUTS: dict[str, Callable[[int, int, random.Random], list[Range]]] = {
    "full": _none,
    "zeros": _all,
    "clusters": _clusters,
    "aligned": _aligned,
    "unaligned": _unaligned,
    "tiny": _tiny,
    "borders": _borders,
    "only first": _only_first,
    "only last": _only_last,
}
"""Where the zeros are: (size, cluster size, random numbers) to runs of zeros, which may overlap."""
