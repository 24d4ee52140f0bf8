"""Runs of sectors for engines: lengths around the places where an engine may change its way.

Long data comes from a seed: that shrinks well and is quick to draw.  Needs no hypothesis.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from qcow2crypt.units import BLOCK_SIZE

# pure: 3 | 4 one after the other or side by side.  pycryptodome: 48 | 49 with 512-byte sectors.
# native: groups of 4 to 48.
RUN_LENGTHS = (0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129)
SECTOR_SIZES = (16, 32, 48, 512, 528, 4096)
KEY_SIZES = (16, 24, 32)


@dataclass(frozen=True)
class Run:
    """One call of an engine: ``data`` is plaintext or ciphertext, whichever a test wants.

    ``ivs`` has 16 bytes for each of the ``count`` sectors.
    """

    key: bytes = field(repr=False)
    ivs: bytes = field(repr=False)
    data: bytes = field(repr=False)
    sector_size: int
    count: int
    seed: int


def make_run(seed: int, count: int, *, key_size: int = 16, sector_size: int = 512) -> Run:
    """A run of ``count`` sectors of bytes that depend on the arguments alone."""
    draw = random.Random(f"{seed} {count} {key_size} {sector_size}").randbytes
    key, ivs, data = draw(key_size), draw(BLOCK_SIZE * count), draw(sector_size * count)
    return Run(key, ivs, data, sector_size, count, seed)
