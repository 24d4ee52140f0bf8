"""One L2 table of a new file while it is being filled, with standard or extended entries.

Knows entries and subclusters by number, no I/O.  Source: the qcow2 document, "L2 table entry"
and "Extended L2 Entries".  What is stored is told apart in units: a subcluster where entries are
extended, else a whole cluster.
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache

from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    EXTENDED_ENTRY_SIZE,
    FLAG_COPIED,
    FLAG_ZERO,
    OFFSET_MASK,
)
from qcow2crypt.image.qcow2.header import SUBCLUSTERS
from qcow2crypt.units import div_up

_ALL = (1 << SUBCLUSTERS) - 1
_AT_ONCE = 512
"""So many entries are made in one step."""


class FreshL2:
    """``entries`` entries; ``unit`` is how many bytes are stored or not stored together."""

    def __init__(self, cluster_size: int, *, extended: bool) -> None:
        self._cluster_size = cluster_size
        self._step = 2 if extended else 1
        self.extended = extended
        entry_size = EXTENDED_ENTRY_SIZE if extended else ENTRY_SIZE
        self.entries = cluster_size // entry_size
        self.unit = cluster_size // SUBCLUSTERS if extended else cluster_size
        self._words = array("Q")
        self.clear()

    def clear(self) -> None:
        """Begin a new table: every cluster unallocated."""
        self._words = array("Q", bytes(self._cluster_size))

    def placed(self, index: int) -> bool:
        """Whether the cluster has a place in the file (or in the data file)."""
        return bool(self._words[index * self._step] & FLAG_COPIED)

    def host(self, index: int) -> int:
        """Host offset of a cluster that has its place."""
        return self._words[index * self._step] & OFFSET_MASK

    def run(self, index: int, limit: int) -> int:
        """How many clusters from ``index`` on, at most ``limit``, have places in one piece."""
        expected = self.host(index)
        count = 1
        while count < limit and self.placed(index + count):
            expected += self._cluster_size
            if self.host(index + count) != expected:
                break
            count += 1
        return count

    def place(self, index: int, host: int, count: int, *, stored: bool = False) -> None:
        """Give ``count`` clusters places from ``host`` on.

        Not ``stored``: until they are, standard entries say that the clusters read as zeros.  In
        extended entries the bits of the subclusters tell, and they stay clear.
        """
        size, step = self._cluster_size, self._step
        first = host | FLAG_COPIED
        if step == 1 and not stored:
            first |= FLAG_ZERO
        words = array("Q", range(first, first + count * size, size))
        self._words[index * step : (index + count) * step : step] = words

    def put(self, index: int, entry: int) -> None:
        """Set an entry as it is; for compressed clusters."""
        self._words[index * self._step] = entry

    def is_stored(self, index: int, within: int) -> bool:
        """Whether the unit with byte ``within`` of a cluster has its bytes in the file."""
        word = self._words[index * self._step]
        if self._step == 1:
            return bool(word & FLAG_COPIED) and not word & FLAG_ZERO
        return bool(self._words[2 * index + 1] >> within // self.unit & 1)

    def store(self, index: int, within: int, length: int) -> None:
        """Mark the units of ``length`` bytes from byte ``within`` of a cluster on as stored."""
        end = within + length
        last = (end - 1) // self._cluster_size
        if self._step == 1:
            for number in range(index, index + last + 1):
                if self._words[number] & FLAG_ZERO:
                    self._words[number] ^= FLAG_ZERO
            return
        for number in range(last + 1):
            start = max(0, within - number * self._cluster_size)
            stop = min(self._cluster_size, end - number * self._cluster_size)
            bits = self._bits(start, stop)
            at = 2 * (index + number) + 1
            self._words[at] = (self._words[at] | bits) & ~(bits << SUBCLUSTERS)

    def store_zeros(self, index: int, within: int, length: int) -> None:
        """Mark whole units of one cluster as zeros."""
        if self._step == 1:
            self._words[index] |= FLAG_ZERO
            return
        bits = self._bits(within, within + length)
        at = 2 * index + 1
        self._words[at] = (self._words[at] | bits << SUBCLUSTERS) & ~bits

    def packed(self) -> bytes:
        """The table as it stands in the file."""
        return big_endian(self._words)

    def _bits(self, start: int, stop: int) -> int:
        return (1 << div_up(stop, self.unit)) - (1 << start // self.unit) & _ALL


def growing(first: int, count: int, size: int) -> bytes:
    """Entries of stored clusters that lie one behind the other, as they stand in the file.

    ``first`` is the host offset of the first one.
    """
    parts = []
    for start in range(0, count, _AT_ONCE):
        length = min(_AT_ONCE, 1 << (count - start - 1).bit_length())
        ones, steps = _row(size, length)
        number = (first + start * size | FLAG_COPIED) * ones + steps
        parts.append(number.to_bytes(length * ENTRY_SIZE, "big"))
    return b"".join(parts)[: count * ENTRY_SIZE]


@lru_cache(maxsize=_AT_ONCE.bit_length())
def _row(size: int, length: int) -> tuple[int, int]:
    """Numbers of 64-bit digits, the first of them highest: 1, 1, 1, ... and 0, size, 2 * size."""
    ones = array("Q", [1]) * length
    steps = array("Q", range(0, length * size, size))
    return int.from_bytes(big_endian(ones), "big"), int.from_bytes(big_endian(steps), "big")


def big_endian(table: array[int]) -> bytes:
    """A table of 64-bit integers as bytes of the file."""
    if sys.byteorder == "little":
        table = array("Q", table)
        table.byteswap()
    return table.tobytes()
