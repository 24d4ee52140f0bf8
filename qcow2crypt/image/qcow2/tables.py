"""Tables of 64-bit entries in memory: read, kept within bounds, changed, written back.

An L2 table is an ``array`` of native integers, always one full cluster long; what lies behind the
end of the file is zero.  Knows where tables lie, not what their entries mean.
Source: the qcow2 document, "Cluster mapping": entries are big-endian in the file.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from qcow2crypt.image.hostfile import HostFile

ENTRY_SIZE = 8
CACHE_BYTES = 8 << 20
_TABLES_MIN = 2
_PART = 1 << 16
_SKIP_START = 16
_SKIP_MOST = 1 << 16
_SWAP = sys.byteorder != "big"


def read_table(file: HostFile, offset: int, entries: int) -> array[int]:
    """``entries`` entries at ``offset``, as native integers."""
    table = array("Q", file.pread(entries * ENTRY_SIZE, offset))
    if _SWAP:
        table.byteswap()
    return table


def _present(file: HostFile, offset: int, entries: int) -> int:
    """How many of so many entries the file has, at least in part."""
    return max(0, min(entries, -(-(file.size - offset) // ENTRY_SIZE)))


def read_l1(file: HostFile, offset: int, entries: int) -> array[int]:
    """An L1 table, cut at the end of the file: what a header only claims takes no memory.

    Entries that are not there are zero; who writes fills the array up before.
    """
    return read_table(file, offset, _present(file, offset, entries))


def read_parts(file: HostFile, offset: int, count: int) -> Iterator[tuple[int, array[int]]]:
    """A table at a host offset, part by part, each with the index where it begins.

    Up to the end of the file.
    """
    count = _present(file, offset, count)
    for index in range(0, count, _PART):
        length = min(_PART, count - index)
        yield index, read_table(file, offset + index * ENTRY_SIZE, length)


def read_entries(file: HostFile, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """The entries of a table that are not 0, each with its index."""
    for start, part in read_parts(file, offset, count):
        yield from ((start + index, entry) for index, entry in enumerate(part) if entry)


def pack_table(table: array[int]) -> bytes:
    """The entries as they stand in the file."""
    if not _SWAP:
        return table.tobytes()
    swapped = table[:]
    swapped.byteswap()
    return swapped.tobytes()


def end_of_run(table: array[int], start: int, stop: int, step: int = 1) -> int:
    """The first index after ``start`` whose ``step`` entries differ from those at ``start``.

    ``stop`` when there is none before; ``stop - start`` is 1 or more times ``step``.  Compares
    slices, not entries, so millions of zeros take milliseconds.
    """
    at = start + step
    if at == stop or table[at : at + step] != table[start:at]:
        return at
    pattern = table[start:at] * (_SKIP_START // step)
    while at + (size := len(pattern)) <= stop and table[at : at + size] == pattern:
        at += size
        if size < _SKIP_MOST:
            pattern *= 2
    # The run ends within the next ``size`` entries: halve what was compared.
    while size > step:
        size //= 2
        if at + size <= stop and table[at : at + size] == pattern[:size]:
            at += size
    return at


class TableCache:
    """The L2 tables of one file, by host offset.  Thread-safe.

    Tables that are as they stand in the file are kept while all take less than ``bytes_max``,
    the one used last the longest.  Tables that were changed (``put``, ``edit``, ``mark_dirty``)
    are kept until ``write_dirty``, however many: the writer watches ``dirty_bytes``.
    """

    def __init__(self, file: HostFile, cluster_size: int, *, bytes_max: int | None = None) -> None:
        self._file = file
        self._entries = cluster_size // ENTRY_SIZE
        self._cluster_size = cluster_size
        limit = CACHE_BYTES if bytes_max is None else bytes_max
        self.tables_max = max(_TABLES_MIN, limit // cluster_size)
        self.version = 0
        """Another number after each change: who keeps what tables say must look again."""
        self._lock = threading.RLock()
        self._clean: OrderedDict[int, array[int]] = OrderedDict()
        self._dirty: dict[int, array[int]] = {}

    def __len__(self) -> int:
        return len(self._clean) + len(self._dirty)

    def find(self, offset: int) -> array[int] | None:
        """The table at ``offset``; None where file and cache have none, so all of it is zero.

        For readers: a table that lies wholly behind the end of the file takes no memory.
        """
        with self._lock:
            table = self._clean.get(offset)
            if table is not None:
                self._clean.move_to_end(offset)
                return table
            table = self._dirty.get(offset)
            if table is not None:
                return table
            if offset >= self._file.size:
                return None
            return self._read(offset)

    def get(self, offset: int) -> array[int]:
        """The table at ``offset``, to be read only: see ``edit``."""
        with self._lock:
            table = self.find(offset)
            return self._read(offset) if table is None else table

    def read_many(self, offsets: Sequence[int]) -> array[int] | None:
        """The entries of many tables, one behind the other, as they stand in the file.

        None if one of them has been changed here.  They are not kept.
        """
        with self._lock:
            if self._dirty and not self._dirty.keys().isdisjoint(offsets):
                return None
            parts = [self._file.pread(self._cluster_size, offset) for offset in offsets]
        table = array("Q", b"".join(parts))
        if _SWAP:
            table.byteswap()
        return table

    def _read(self, offset: int) -> array[int]:
        # Under the lock: a table that is read while another thread changes, writes and drops it
        # would come back as it was before.
        table = read_table(self._file, offset, self._entries)
        self._clean[offset] = table
        self._shrink()
        return table

    def _shrink(self) -> None:
        keep = max(_TABLES_MIN, self.tables_max - len(self._dirty))
        while len(self._clean) > keep:
            self._clean.popitem(last=False)

    def put(self, offset: int, table: array[int]) -> None:
        """Take a new table, or a new content of one, as changed."""
        if len(table) != self._entries:
            raise ValueError(f"an L2 table has {self._entries} entries, not {len(table)}")
        with self._lock:
            self.version += 1
            self._clean.pop(offset, None)
            self._dirty[offset] = table
            self._shrink()

    def edit(self, offset: int) -> array[int]:
        """The table at ``offset``, to be changed: it counts as changed from now on."""
        with self._lock:
            self.version += 1
            table = self._dirty.get(offset)
            if table is None:
                table = self.get(offset)
                self.put(offset, table)
            return table

    def mark_dirty(self, offset: int) -> None:
        """The table at ``offset`` was changed.  KeyError when it is not kept any more.

        Another thread's read may have pushed it out since ``get``: ``edit`` has no such gap.
        """
        with self._lock:
            self.version += 1
            if offset not in self._dirty:
                self.put(offset, self._clean[offset])

    @property
    def dirty(self) -> frozenset[int]:
        """Host offsets of the tables that were changed and are not written yet."""
        with self._lock:
            return frozenset(self._dirty)

    @property
    def dirty_bytes(self) -> int:
        """What they take in memory."""
        return len(self._dirty) * self._cluster_size

    def write_dirty(self) -> int:
        """Write every changed table to the file, in order; returns how many.

        One whose write fails stays changed, and so do those behind it.  Raises TargetError.
        """
        with self._lock:
            self.version += 1
            offsets = sorted(self._dirty)
            for offset in offsets:
                table = self._dirty[offset]
                self._file.pwrite(pack_table(table), offset)
                del self._dirty[offset]
                self._clean[offset] = table
            self._shrink()
            return len(offsets)

    def drop(self, offset: int) -> None:
        """Forget the table at ``offset``, changed or not: its cluster is no table any more."""
        with self._lock:
            self.version += 1
            self._clean.pop(offset, None)
            self._dirty.pop(offset, None)

    def clear(self) -> None:
        """Forget every table, changed or not."""
        with self._lock:
            self.version += 1
            self._clean.clear()
            self._dirty.clear()
