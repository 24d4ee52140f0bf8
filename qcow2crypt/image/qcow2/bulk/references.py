"""References of whole L1 tables: counted up and down in bulk, and the flags that follow.

A snapshot is one more L1 table over the same L2 tables and clusters.  To make, apply or delete
one, the references of whole L1 tables are added or taken away; after that the COPIED flags of the
active tables must say again which counts are exactly one.  No table is changed in place: one
whose flags must change is written anew, through ``Switch``.

Knows L1 and L2 tables and counts; never sees keys or guest bytes.  Source: the qcow2 document,
"Cluster mapping": each way from an L1 table to a cluster is one reference.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from qcow2crypt.errors import FormatError
from qcow2crypt.image.qcow2.bulk.switch import Switch
from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.runs import entry_runs, equal_runs, flipped
from qcow2crypt.image.qcow2.tables import read_table
from qcow2crypt.units import div_up


class L1References:
    """Adds and takes away the references of L1 tables in the counts that ``switch`` wants.

    Raises FormatError where a table cannot be, or where something that is in use counts as free:
    such an image must be repaired first.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._header = switch.header
        self._bits = switch.header.cluster_bits
        self._step = 2 if switch.header.extended_l2 else 1

    def read_l1(self, offset: int, entries: int) -> array[int]:
        """An L1 table of the file, all of it."""
        return read_table(self._switch.file, offset, entries)

    def count(self, l1: array[int], times: int) -> None:
        """Count everything that ``l1`` leads to ``times`` more (or less, if negative)."""
        ways = self._ways(l1)
        for cluster in ways.used():
            self._add(cluster, 1, times * ways[cluster])
            for first, count in self._runs(self._table(cluster)):
                self._add(first, count, times * ways[cluster])

    def count_region(self, offset: int, length: int, times: int) -> None:
        """Count the clusters of a table ``times`` more."""
        if length:
            self._add(offset >> self._bits, div_up(length, 1 << self._bits), times)

    def place_l1(self, l1: array[int]) -> int:
        """Write an L1 table to a new place, counted once; gives its host offset, 0 for none."""
        if not l1:
            return 0
        count = div_up(len(l1) * ENTRY_SIZE, 1 << self._bits)
        offset = self._switch.allocate(count) << self._bits
        room = (count << self._bits) // ENTRY_SIZE
        self._switch.write_table(l1 + array("Q", bytes((room - len(l1)) * ENTRY_SIZE)), offset)
        return offset

    def with_right_flags(self, l1: array[int], sharers: int = 1) -> array[int]:
        """``l1`` as it must be now that everything is counted: flags, and tables moved for them.

        So many new L1 tables will be such as this one; their references are counted already.
        """
        wanted, bits = self._switch.wanted, self._bits
        ways = self._ways(l1)
        old = array("Q", ways.used())
        moved = old[:]
        for place, cluster in enumerate(old):
            table = self._table(cluster)
            self._check_counted(cluster, 1, 1)
            if self._set_flags(table):
                new = moved[place] = self._switch.allocate()
                self._switch.write_table(table, new << bits)
                wanted.add(new, ways[cluster] * sharers - 1)
                self._add(cluster, 1, -ways[cluster] * sharers)
        right = array("Q", bytes(len(l1) * ENTRY_SIZE))
        for index, entry in enumerate(l1):
            if entry & OFFSET_MASK:
                cluster = moved[bisect_left(old, (entry & OFFSET_MASK) >> bits)]
                right[index] = cluster << bits | (FLAG_COPIED if wanted[cluster] == 1 else 0)
        return right

    # ------------------------------------------------------------------------- inside

    def _ways(self, l1: array[int]) -> ClusterCounts:
        """How often ``l1`` names each L2 table, by cluster."""
        ways = ClusterCounts()
        for _, entry, count in equal_runs(l1):
            if entry & OFFSET_MASK:
                ways.add(self._cluster(entry & OFFSET_MASK, "L2 table"), count)
        return ways

    def _set_flags(self, table: array[int]) -> bool:
        """Put the COPIED flags of a table right; True when one was not."""
        wanted, size, step = self._switch.wanted, 1 << self._bits, self._step
        changed = False
        entries = table[::step] if step > 1 else table[:]
        for index, entry, count in entry_runs(entries, size):
            host, copied = entry & OFFSET_MASK, bool(entry & FLAG_COPIED)
            if entry & FLAG_COMPRESSED or not host:
                continue
            counts = wanted.slice(host >> self._bits, count)
            alone = counts.count(1)
            if alone == (count if copied else 0):
                continue
            changed = True
            if alone == (0 if copied else count):
                entries[index : index + count] = flipped(
                    entries[index : index + count], FLAG_COPIED
                )
                continue
            for place, found in enumerate(counts, index):
                if (found == 1) != copied:
                    entries[place] ^= FLAG_COPIED
        table[::step] = entries
        return changed

    def _runs(self, table: array[int]) -> Iterator[tuple[int, int]]:
        """The host clusters that a table refers to: first and count, neighbours together."""
        bits = self._bits
        entries = table[:: self._step] if self._step > 1 else table
        for _, entry, count in entry_runs(entries, 1 << bits):
            if entry & FLAG_COMPRESSED:
                packed = parse_compressed(entry & ~FLAG_COPIED, bits)
                first = packed.host_offset >> bits
                yield first, (packed.host_offset + packed.length - 1 >> bits) + 1 - first
            elif entry & OFFSET_MASK:
                yield self._cluster(entry & OFFSET_MASK, "data cluster"), count

    def _table(self, cluster: int) -> array[int]:
        offset = cluster << self._bits
        if offset >= self._switch.file.size:
            raise _damaged("L2 table", offset, "an offset inside the file")
        return read_table(self._switch.file, offset, self._header.cluster_size // ENTRY_SIZE)

    def _cluster(self, offset: int, what: str) -> int:
        if offset & (1 << self._bits) - 1:
            raise _damaged(what, offset, f"a multiple of {1 << self._bits:#x}")
        return offset >> self._bits

    def _add(self, first: int, count: int, times: int) -> None:
        self._check_counted(first, count, max(1, -times))
        self._switch.wanted.add_run(first, count, times)

    def _check_counted(self, first: int, count: int, least: int) -> None:
        counts = self._switch.wanted.slice(first, count)
        if least == 1 and 0 not in counts:
            return
        lowest = min(counts)
        if lowest < least:
            raise FormatError(
                "a cluster is used more often than it is counted; repair the image with check",
                field=f"refcount of one of the clusters {first} to {first + count - 1}",
                offset=None,
                found=str(lowest),
                allowed=f"{least} or more",
            )


def _damaged(what: str, offset: int, allowed: str) -> FormatError:
    return FormatError(
        "a table is damaged; repair the image with check",
        field=f"host offset of the {what}",
        offset=None,
        found=hex(offset),
        allowed=allowed,
    )
