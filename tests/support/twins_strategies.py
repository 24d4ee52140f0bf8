"""Hypothesis strategies for pairs of images: shapes, and steps that fit a shape."""

from __future__ import annotations

from hypothesis import strategies as st
from support.twins_shape import SECTOR, Shape, Step

_LARGEST = {512: 400, 4096: 6000, 16384: 3000, 65536: 4000}
"""The largest disk for a cluster size, in sectors; L2 tables of small clusters end before it."""
_VERBS = st.sampled_from(("write", "write", "write", "zero", "unmap", "discard"))


@st.composite
def shapes(draw: st.DrawFn, kind: str) -> Shape:
    """The shapes of one kind: ``plain``, ``aes``, ``extended``, ``backed`` or ``external``."""
    external = kind == "external"
    mixed = kind in ("backed", "external")
    extended = kind == "extended" or (mixed and draw(st.integers(0, 3)) == 0)
    encrypted = kind == "aes" or (kind != "plain" and draw(st.booleans()))
    cluster_size = draw(st.sampled_from((16384, 65536) if extended else (512, 4096, 65536)))
    version = 3 if extended or external or draw(st.integers(0, 2)) else 2
    size = SECTOR * draw(_sectors(_LARGEST[cluster_size]))
    packed: tuple[int, ...] = ()
    if not external and draw(st.booleans()):
        whole = min(size // cluster_size, 20)
        packed = tuple(sorted(draw(st.sets(st.integers(0, max(whole - 1, 0)), max_size=3))))
        packed = packed if whole else ()
    base = None
    if kind == "backed" or (external and draw(st.booleans())):
        base = draw(st.sampled_from(("raw", "qcow2", "aes")))
    return Shape(
        cluster_size,
        size,
        version=version,
        extended=extended,
        encrypted=encrypted,
        refcount_bits=draw(st.sampled_from((16, 1, 2, 4, 8, 32, 64))) if version == 3 else 16,
        lazy=version == 3 and draw(st.integers(0, 3)) == 0,
        base=base,
        base_size=SECTOR * draw(_sectors(_LARGEST[cluster_size])) if base else 0,
        by_us=draw(st.booleans()),
        packed=packed,
        data_file=external,
        # Encrypted, such a file is no raw disk, and what QEMU reserves in it reads as garbage.
        data_file_raw=external and not base and not encrypted and draw(st.booleans()),
    )


def _sectors(largest: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 64), st.integers(1, largest))


def sizes(shape: Shape) -> st.SearchStrategy[int]:
    """Other sizes for the disk: anything, and around cluster borders."""
    cluster = shape.cluster_size // SECTOR
    largest = 2 * _LARGEST[shape.cluster_size]
    borders = st.builds(lambda n, d: max(1, n * cluster + d), st.integers(0, 9), st.integers(-1, 1))
    return st.one_of(st.integers(1, largest), borders).map(lambda n: n * SECTOR)


@st.composite
def steps(draw: st.DrawFn, shape: Shape, size: int) -> list[Step]:
    """One to four changes of a disk of ``size`` bytes, most of them near each other."""
    units = (1, SECTOR, SECTOR, shape.unit, shape.cluster_size, shape.cluster_size)
    found = []
    for _ in range(draw(st.integers(1, 4))):
        unit = draw(st.sampled_from(units))
        last = max(0, size // unit - 1)
        start = draw(st.one_of(st.integers(0, min(last, 70)), st.integers(0, last))) * unit
        count = draw(st.sampled_from((1, 1, 1, 2, 3, 5, 8, 40, 200)))
        length = min(unit * count, size - start)
        verb = draw(_VERBS)
        seed = draw(st.integers(0, 999)) if verb == "write" else 0
        found.append(Step(verb, start, length, seed))
    return found
