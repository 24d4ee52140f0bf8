"""Runs in many L2 tables at once: what ``mapping`` finds table by table, for small clusters.

With clusters of 512 bytes a table covers 32 KiB, so a step for each of them takes longer than the
data.  Here consecutive tables are one array, and where entries grow cluster by cluster is seen by
comparing memory.  Only for standard entries without a data file.  Tables with anything but plain
clusters and unallocated ones are left to ``mapping``, which also tells what is wrong in a table.
Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from qcow2crypt.errors import SourceError
from qcow2crypt.image.extents import ExtentKind, Run
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, FLAG_ZERO, OFFSET_MASK
from qcow2crypt.image.qcow2.runs import UNCLEAR, every, falling
from qcow2crypt.image.qcow2.tables import TableCache, end_of_run

_ENTRIES_AT_ONCE = 4096
_TABLES_MIN = 8
"""A range of fewer tables is quickly looked up one by one."""
_WINDOWS_MAX = 16
"""As many as there can be threads."""
_DATA, _UNALLOCATED = ExtentKind.DATA, ExtentKind.UNALLOCATED


class _Window(NamedTuple):
    """The runs of consecutive L2 tables, None for a table that is left to ``mapping``."""

    version: int
    l1: array[int]
    runs: list[list[Run] | None]


class ManyTables:
    """Runs of one map, kept for some of the ranges that were asked for last.  Thread-safe.

    ``tables`` are those of the file; a table that has been changed there is not looked at here.
    """

    def __init__(self, tables: TableCache, cluster_size: int) -> None:
        self._tables = tables
        self._cluster_size = cluster_size
        self._entries = cluster_size // ENTRY_SIZE
        self._coverage = cluster_size * self._entries
        self._at_once = _ENTRIES_AT_ONCE // self._entries
        self._small = self._at_once >= _TABLES_MIN
        self._kept: OrderedDict[int, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, l1: array[int], position: int, end: int) -> list[Run]:
        """The runs from ``position`` on, one behind the other, at most up to ``end``.

        None at all where it is left to ``mapping``.
        """
        first = position // self._coverage
        if not self._small or (end - 1) // self._coverage == first:
            return []
        number, at = divmod(first, self._at_once)
        window = self._window(l1, number, is_wide=end - position >= _TABLES_MIN * self._coverage)
        if window is None:
            return []
        found: list[Run] = []
        for runs in window.runs[at:]:
            if runs is None or (found and found[-1].stop >= end):
                break
            found += runs
        return _clipped(found, first * self._coverage, position, end) if found else found

    def _window(self, l1: array[int], number: int, *, is_wide: bool) -> _Window | None:
        start = number * self._at_once
        part = l1[start : start + self._at_once]
        version = self._tables.version
        with self._lock:
            window = self._kept.get(number)
            if window is not None and window.version == version and window.l1 == part:
                self._kept.move_to_end(number)
                return window
        if not is_wide:
            return None
        window = _Window(version, part, self._runs(part, start * self._coverage))
        with self._lock:
            self._kept[number] = window
            while len(self._kept) > _WINDOWS_MAX:
                self._kept.popitem(last=False)
        return window

    def _runs(self, l1: array[int], guest: int) -> list[list[Run] | None]:
        """The runs of the tables that ``l1`` names, the first of which maps ``guest``."""
        offsets = [entry & OFFSET_MASK for entry in l1]
        odd = self._cluster_size - 1
        usable = [at for at, offset in enumerate(offsets) if offset and not offset & odd]
        runs: list[list[Run] | None] = [None] * len(l1)
        try:
            words = self._tables.read_many([offsets[at] for at in usable])
        except SourceError:
            return runs  # which table it is, and that those before it can be read, shows later
        if not words:
            return runs
        words.frombytes(bytes((_ENTRIES_AT_ONCE - len(words)) * ENTRY_SIZE))
        guests = [guest + at * self._coverage for at in usable]
        for at, found in zip(
            usable, table_runs(words, self._entries, self._cluster_size, guests), strict=True
        ):
            runs[at] = found
        return runs


def table_runs(
    words: array[int], entries: int, size: int, guests: Sequence[int]
) -> list[list[Run] | None]:
    """The runs of L2 tables, whose entries lie one behind the other in ``words``.

    ``guests`` has the guest offset of each table, ``size`` is that of a cluster.  None for a table
    with an entry that is no plain cluster at a valid offset, and for one without any cluster.
    """
    length, row = len(words), entries * ENTRY_SIZE
    number = int.from_bytes(words.tobytes(), sys.byteorder)
    special = number & every(UNCLEAR | FLAG_ZERO | OFFSET_MASK & size - 1, length)
    odd = special.to_bytes(length * ENTRY_SIZE, sys.byteorder) if special else b""
    # In a run all of these are equal: neighbours are compared as bytes, a table at a time.
    level = _levels(number, special, size, length)
    found: list[list[Run] | None] = []
    at = byte = 0
    for guest in guests:
        end = byte + row
        if odd and any(odd[byte:end]):
            found.append(None)
        elif level[byte + ENTRY_SIZE : end] == level[byte : end - ENTRY_SIZE] and (
            host := words[at] & OFFSET_MASK
        ):
            found.append([Run(_DATA, host, guest + entries * size)])
        else:
            levels = array("Q", level[byte:end])
            found.append(_parts(words[at : at + entries], levels, size, guest))
        at += entries
        byte = end
    return found


def _levels(number: int, special: int, size: int, length: int) -> bytes:
    """Tables as one number, less what entries grow by from one to the next."""
    if special:  # these tables are not looked at, and must not run into others
        number &= ~every(UNCLEAR, length)
    return (number + falling(size, length)).to_bytes(length * ENTRY_SIZE, sys.byteorder)


def _parts(table: array[int], levels: array[int], size: int, guest: int) -> list[Run] | None:
    """The runs of one table; None if nothing is allocated."""
    runs: list[Run] = []
    at, end = 0, len(table)
    while at < end:
        host = table[at] & OFFSET_MASK
        stop = end_of_run(levels if host else table, at, end)
        where = guest + stop * size
        runs.append(Run(_DATA, host, where) if host else Run(_UNALLOCATED, None, where))
        at = stop
    return runs if len(runs) > 1 or runs[0].kind is _DATA else None


def _clipped(runs: list[Run], start: int, position: int, end: int) -> list[Run]:
    """What lies from ``position`` to ``end`` of runs one behind the other, from ``start`` on."""
    skipped = 0
    while runs[skipped].stop <= position:
        start = runs[skipped].stop
        skipped += 1
    del runs[:skipped]
    while len(runs) > 1 and runs[-2].stop >= end:
        runs.pop()
    kind, host, stop = runs[0]
    if start < position and host is not None:
        runs[0] = Run(kind, host + position - start, stop)
    if runs[-1].stop > end:
        runs[-1] = runs[-1]._replace(stop=end)
    return runs
