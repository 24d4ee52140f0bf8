"""What the property tests draw from: keys, runs of sectors, sector numbers.

Sizes are chosen around the places where an engine changes its way: one sector, a few, as many as
fit side by side, one more.  Long data comes from a seed, which shrinks well and is quick to draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st

from qcow2crypt import engines
from qcow2crypt.errors import EngineUnavailableError
from qcow2crypt.units import BLOCK_SIZE, SECTOR_NUMBER_MAX

# Each kernel of this build, whether or not this processor can run it: one that it cannot is
# skipped by name.
KERNELS = tuple(f"native:{kernel.name}" for kernel in engines.status().kernels)
ENGINES = (*engines.names(), *KERNELS)

# pure: 3 | 4 one after the other or side by side.  pycryptodome: 48 | 49 with 512-byte sectors.
# native: groups of 4 to 48.
RUN_LENGTHS = (0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129)
SECTOR_SIZES = (16, 32, 48, 512, 528, 4096)


@dataclass(frozen=True)
class Run:
    """One call of an engine: ``data`` is plaintext or ciphertext, whichever a test wants."""

    key: bytes = field(repr=False)
    ivs: bytes = field(repr=False)
    data: bytes = field(repr=False)
    sector_size: int
    count: int
    seed: int


def working() -> list[str]:
    """The names in ENGINES that can be had here."""
    able = {f"native:{kernel.name}" for kernel in engines.status().kernels if kernel.available}
    return [*engines.available(), *(name for name in KERNELS if name in able)]


def engine(name: str) -> engines.Engine:
    """The engine ``name``; where it does not work, the test is skipped and the summary says so."""
    try:
        return engines.get(name)
    except EngineUnavailableError as error:
        pytest.skip(f"the engine '{name}' was not tested: {error.reason}")


def make_run(seed: int, count: int, *, key_size: int = 16, sector_size: int = 512) -> Run:
    """A run of ``count`` sectors of bytes that depend on the arguments alone."""
    draw = random.Random(f"{seed} {count} {key_size} {sector_size}").randbytes
    key, ivs, data = draw(key_size), draw(BLOCK_SIZE * count), draw(sector_size * count)
    return Run(key, ivs, data, sector_size, count, seed)


def keys() -> st.SearchStrategy[bytes]:
    """AES keys of all three sizes."""
    return st.sampled_from((16, 24, 32)).flatmap(
        lambda size: st.binary(min_size=size, max_size=size)
    )


@st.composite
def runs(draw: st.DrawFn, max_bytes: int = 1 << 16, max_count: int = 129) -> Run:
    """Runs of at most ``max_bytes`` bytes and ``max_count`` sectors."""
    sector_size = draw(st.sampled_from(SECTOR_SIZES))
    most = min(max_count, max_bytes // sector_size)
    edges = [count for count in RUN_LENGTHS if count <= most]
    count = draw(st.one_of(st.sampled_from(edges), st.integers(0, most)))
    key_size = draw(st.sampled_from((16, 24, 32)))
    return make_run(draw(st.integers(0, 2**32)), count, key_size=key_size, sector_size=sector_size)


def sector_numbers(count: int = 1) -> st.SearchStrategy[int]:
    """First numbers of runs of ``count`` sectors, often at a place where something may turn."""
    last = SECTOR_NUMBER_MAX - max(count - 1, 0)
    turns = (0, 1, 2**32 - 1, 2**32, 2**32 - count, 2**63 - 1, 2**63 - count, last - 1, last)
    return st.one_of(
        st.sampled_from([number for number in turns if 0 <= number <= last]), st.integers(0, last)
    )
