"""Hypothesis strategies for comparisons with qemu-img: content, targets, sparse sizes, scripts.

Knows sizes and words, runs nothing.
"""

from __future__ import annotations

from hypothesis import strategies as st
from support.differential import CLUSTER_SIZES, EXHAUSTIVE, PASSPHRASE, SECTOR, Target
from support.differential_content import Range, Recipe

MIB = 1 << 20
_LARGEST = 24 * MIB if EXHAUSTIVE else 3 * MIB
_LENGTHS = (1, SECTOR, 1024, 4096, 5000, 8192, 65536, 100_000)
SPARSE_SIZES = (0, 512, 1024, 4096, 8192, 12288, 20480, 65536, MIB, 3 * MIB)


@st.composite
def recipes(draw: st.DrawFn, largest: int = _LARGEST) -> Recipe:
    """Disks of any size, small ones more often, with up to forty runs of zeros."""
    size = draw(st.one_of(st.integers(0, 70_000), st.integers(0, largest)))
    zeros: list[Range] = []
    for _ in range(draw(st.integers(0, 40)) if size else 0):
        start = draw(st.integers(0, size - 1))
        start -= draw(st.sampled_from((0, start % SECTOR, start % 4096)))
        length = draw(st.one_of(st.sampled_from(_LENGTHS), st.integers(1, 20_000)))
        zeros.append((start, length))
    return Recipe(size, tuple(zeros), draw(st.integers(0, 1 << 16)))


PASSPHRASES = st.sampled_from((None, PASSPHRASE))
VERSIONS = st.sampled_from((2, 3))

qcow2_targets = st.builds(
    Target,
    cluster_size=st.sampled_from(CLUSTER_SIZES),
    version=VERSIONS,
    passphrase=PASSPHRASES,
)
targets = st.one_of(st.just(Target("raw")), qcow2_targets)


def minus_s(sizes: tuple[int, ...] = SPARSE_SIZES) -> st.SearchStrategy[tuple[str, ...]]:
    """The words ``-S SIZE``, or nothing."""
    return st.one_of(st.just(()), st.sampled_from(sizes).map(lambda size: ("-S", str(size))))


_WRITES = ("write -P 17", "write -P 201", "write -P 0", "write -z", "write -z -u", "discard")


@st.composite
def scripts(draw: st.DrawFn, size: int, cluster_size: int) -> list[str]:
    """qemu-io commands that change a disk of ``size`` bytes: writes, zero writes, discards.

    Compressed clusters come first: writing one onto an allocated cluster is an error.
    """
    commands = []
    clusters = size // cluster_size
    if clusters:
        for cluster in sorted(draw(st.sets(st.integers(0, min(clusters, 40) - 1), max_size=4))):
            commands.append(f"write -q -c -P 99 {cluster * cluster_size} {cluster_size}")
    for _ in range(draw(st.integers(0, 15))):
        unit = draw(st.sampled_from((1, SECTOR, SECTOR, SECTOR, 4096, cluster_size)))
        start = draw(st.integers(0, size - 1)) // unit * unit
        length = draw(st.sampled_from((1, 700, SECTOR, 4096, 5000, cluster_size, 3 * cluster_size)))
        length = min(max(unit, length // unit * unit), size - start)
        verb, _, rest = draw(st.sampled_from(_WRITES)).partition(" ")
        commands.append(" ".join(f"{verb} -q {rest} {start} {length}".split()))
    return commands
