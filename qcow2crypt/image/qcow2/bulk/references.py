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
from collections import Counter
from collections.abc import Iterator

from qcow2crypt.errors import FormatError
from qcow2crypt.image.qcow2.bulk.switch import Switch
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
    parse_compressed,
)
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
        for offset, ways in Counter(entry & OFFSET_MASK for entry in l1).items():
            if offset:
                self._add(self._cluster(offset, "L2 table"), 1, times * ways)
                for first, count in self._runs(self._table(offset)):
                    self._add(first, count, times * ways)

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
        self._switch.write_table([*l1, *(0 for _ in range(room - len(l1)))], offset)
        return offset

    def with_right_flags(self, l1: array[int], sharers: int = 1) -> array[int]:
        """``l1`` as it must be now that everything is counted: flags, and tables moved for them.

        So many new L1 tables will be such as this one; their references are counted already.
        """
        moved: dict[int, int] = {}
        wanted, bits = self._switch.wanted, self._bits
        for offset, ways in Counter(entry & OFFSET_MASK for entry in l1).items():
            if not offset:
                continue
            table = self._table(offset)
            self._check_counted(self._cluster(offset, "L2 table"), 1, 1)
            moved[offset] = offset
            if self._set_flags(table):
                cluster = self._switch.allocate()
                self._switch.write_table(table, cluster << bits)
                moved[offset] = cluster << bits
                wanted.add(cluster, ways * sharers - 1)
                self._add(offset >> bits, 1, -ways * sharers)
        new = array("Q", bytes(len(l1) * ENTRY_SIZE))
        for index, entry in enumerate(l1):
            offset = moved.get(entry & OFFSET_MASK, 0)
            if offset:
                new[index] = offset | (FLAG_COPIED if wanted[offset >> bits] == 1 else 0)
        return new

    # ------------------------------------------------------------------------- inside

    def _set_flags(self, table: array[int]) -> bool:
        """Put the COPIED flags of a table right; True when one was not."""
        wanted, bits = self._switch.wanted, self._bits
        changed = False
        for index in range(0, len(table), self._step):
            entry = table[index]
            if not entry or entry & FLAG_COMPRESSED or not entry & OFFSET_MASK:
                continue
            alone = wanted[(entry & OFFSET_MASK) >> bits] == 1
            if alone != bool(entry & FLAG_COPIED):
                table[index] = entry ^ FLAG_COPIED
                changed = True
        return changed

    def _runs(self, table: array[int]) -> Iterator[tuple[int, int]]:
        """The host clusters that a table refers to: first and count, neighbours together."""
        run = length = 0
        bits = self._bits
        for entry in table[:: self._step] if self._step > 1 else table:
            if not entry:
                continue
            if entry & FLAG_COMPRESSED:
                packed = parse_compressed(entry & ~FLAG_COPIED, bits)
                first = packed.host_offset >> bits
                yield first, (packed.host_offset + packed.length - 1 >> bits) + 1 - first
                continue
            host = entry & OFFSET_MASK
            if not host:
                continue
            cluster = self._cluster(host, "data cluster")
            if cluster != run + length:
                if length:
                    yield run, length
                run, length = cluster, 0
            length += 1
        if length:
            yield run, length

    def _table(self, offset: int) -> array[int]:
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
        lowest = min(self._switch.wanted.slice(first, count))
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
