"""Runs in tables: entries that follow one another, found without a step for each of them.

A disk that was filled from the start has L2 tables where every entry is the one before plus one
cluster.  Taken as one large number, a whole table less such a row is the same value over and
over, and that is found by comparing memory.  Knows entries as integers, no file.
Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from functools import lru_cache

from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.tables import end_of_run

UNCLEAR = 0x7F00_0000_0000_0000
"""Bits 56 to 62: compressed clusters, and what is reserved.  Such entries stand alone."""


def entry_runs(table: array[int], step: int) -> Iterator[tuple[int, int, int]]:
    """The entries of a table that are not 0, as runs: index, first entry, count.

    Of two neighbours in a run the second is the first plus ``step`` (a cluster), so all have the
    same flags.  An entry without a host offset is a run of its own.
    ``single_entries`` is the slow twin.
    """
    length = len(table)
    number = int.from_bytes(table, sys.byteorder)
    if not number:
        return
    if number & every(UNCLEAR, length):
        yield from single_entries(table)
        return
    # Bits 56 to 62 are free, so the sums do not run into each other.
    number += falling(step, length)
    flat = number.to_bytes(length * ENTRY_SIZE, sys.byteorder)
    if table[0] & OFFSET_MASK and flat[ENTRY_SIZE:] == flat[:-ENTRY_SIZE]:
        yield 0, table[0], length
        return
    level = array("Q", flat)
    at = 0
    while at < length:
        entry = table[at]
        if not entry & OFFSET_MASK:
            end = end_of_run(table, at, length)
            if entry:
                yield from ((index, entry, 1) for index in range(at, end))
        elif at + 1 < length and level[at] == level[at + 1]:
            end = end_of_run(level, at, length)
            yield at, entry, end - at
        else:
            end = at + 1
            yield at, entry, 1
        at = end


def single_entries(table: array[int]) -> Iterator[tuple[int, int, int]]:
    """The entries of a table that are not 0, each as a run of one: the twin of ``entry_runs``."""
    return ((index, entry, 1) for index, entry in enumerate(table) if entry)


def equal_runs(table: array[int]) -> Iterator[tuple[int, int, int]]:
    """The entries that are not 0, with neighbours that are the same together: as above."""
    at, length = 0, len(table)
    while at < length:
        entry = table[at]
        end = at + 1
        if end < length and table[end] == entry:
            end = end_of_run(table, at, length)
        if entry:
            yield at, entry, end - at
        at = end


def grows(table: memoryview, step: int) -> bool:
    """Whether each entry is the one before plus ``step`` (a cluster), flags and all."""
    length = len(table)
    first, last = table[0], table[-1]
    if last != first + (length - 1) * step or (first ^ last) & ~OFFSET_MASK:
        return False
    number = int.from_bytes(table, sys.byteorder)
    return number + falling(step, length) == last * every(1, length)


def flipped(entries: array[int], flag: int) -> array[int]:
    """The same entries, each with ``flag`` the other way round."""
    number = int.from_bytes(entries, sys.byteorder) ^ every(flag, len(entries))
    return array("Q", number.to_bytes(len(entries) * ENTRY_SIZE, sys.byteorder))


@lru_cache(maxsize=16)
def every(value: int, length: int) -> int:
    """A table that has one value everywhere, as one number."""
    return int.from_bytes(array("Q", [value]) * length, sys.byteorder)


@lru_cache(maxsize=16)
def falling(step: int, length: int) -> int:
    """A table that falls by ``step`` from entry to entry, to 0, as one number.

    Added to a run it gives the same value everywhere.
    """
    return int.from_bytes(array("Q", range((length - 1) * step, -1, -step)), sys.byteorder)
