"""Ranges that shall read as zeros, or that the guest needs no more: L2 entries, not bytes.

What becomes of each kind of cluster is as QEMU does it:

    write zeroes   the zero flag, and a host cluster is kept for later; with ``unmap``, and for a
                   compressed cluster, it is let go
    discard        the zero flag, and the host cluster is let go; what is unallocated in an image
                   without a backing file stays so
    forget         the entry becomes 0, as if nothing had ever been written

Version 2 has no zero flag.  Without a backing file its entries become 0 instead; with one, zeros
have to be written as data, and for that is the caller (``False`` is returned).

Knows L2 entries and units of zeroing, no guest bytes.
"""

from __future__ import annotations

import enum
from array import array

from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.entries import FLAG_COMPRESSED, FLAG_COPIED, FLAG_ZERO, OFFSET_MASK
from qcow2crypt.image.qcow2.header import SUBCLUSTERS
from qcow2crypt.image.qcow2.subclusters import ALL_ZERO, bit_range


class Removal(enum.Enum):
    """How clusters lose their data."""

    ZERO = "write zeroes"
    UNMAP = "write zeroes, and let go of host clusters"
    DISCARD = "discard"
    FORGET = "forget"


class ClusterEraser:
    """Changes what whole clusters and subclusters are.  Not thread-safe.

    ``has_backing`` tells whether an unallocated cluster shows something else than zeros.
    """

    def __init__(self, metadata: Metadata, *, has_backing: bool) -> None:
        header = metadata.header
        self._meta = metadata
        self._has_backing = has_backing
        self._zero_flag = header.version >= 3
        self._extended = header.extended_l2
        self.cluster_size = header.cluster_size
        self._bits = header.cluster_bits
        self._entries = header.l2_entries
        self.unit = header.cluster_size // SUBCLUSTERS if self._extended else header.cluster_size
        """Bytes that can become zero on their own: a cluster, or a subcluster."""

    @property
    def can_zero(self) -> bool:
        """False where zeros must be written as data."""
        return self._zero_flag or not self._has_backing

    def clusters(self, start: int, end: int, how: Removal) -> None:
        """Change the whole clusters of a guest range; both ends are multiples of their size.

        Raises MappingError, FormatError, TargetError: then part of the range has changed.
        """
        number, last = start >> self._bits, end >> self._bits
        while number < last:
            l1_index, index = divmod(number, self._entries)
            count = min(last - number, self._entries - index)
            number += count
            if l1_index >= len(self._meta.l1):
                return
            old = self._meta.table(l1_index)
            if old is None and self._stays_unallocated(how):
                continue
            if old is not None and not self._changes(old, index, count, how):
                continue
            table = self._meta.edit_table(l1_index)
            for at in range(index, index + count):
                self._change(table, at, (l1_index * self._entries + at) << self._bits, how)
            if self._meta.heavy:
                self._meta.commit()

    def subclusters(self, start: int, end: int) -> bool:
        """Let subclusters of one cluster read as zeros; both ends are multiples of the unit.

        False where that is not possible, in a compressed cluster, and nothing has changed.
        """
        l1_index, index = divmod(start >> self._bits, self._entries)
        old = self._meta.table(l1_index)
        if old is not None and old[2 * index] & FLAG_COMPRESSED:
            return False
        table = self._meta.edit_table(l1_index)
        first = start & -self.cluster_size
        bits = bit_range((start - first) // self.unit, (end - 1 - first) // self.unit)
        table[2 * index + 1] = (table[2 * index + 1] | bits << SUBCLUSTERS) & ~bits
        return True

    # ------------------------------------------------------------------------- one entry

    def _stays_unallocated(self, how: Removal) -> bool:
        if how is Removal.FORGET:
            return True
        if not self._zero_flag:
            return not self._has_backing
        return how is Removal.DISCARD and not self._has_backing

    def _changes(self, table: array[int], index: int, count: int, how: Removal) -> bool:
        """Is there anything to do?  A table that is shared is not copied for nothing."""
        return any(self._new(table, at, how) is not None for at in range(index, index + count))

    def _new(self, table: array[int], index: int, how: Removal) -> tuple[int, int] | None:
        """The new entry and bitmap; None where all stays as it is."""
        if self._extended:
            old, bitmap = table[2 * index], table[2 * index + 1]
        else:
            old, bitmap = table[index], 0
        compressed = bool(old & FLAG_COMPRESSED)
        has_host = compressed or bool(old & (OFFSET_MASK | FLAG_COPIED))
        shows_zeros = not has_host and not old & FLAG_ZERO and not bitmap
        if how is Removal.FORGET or not self._zero_flag:
            new = (0, 0)
        elif how is Removal.DISCARD and shows_zeros and not self._has_backing:
            return None
        else:
            gone = compressed or how is not Removal.ZERO
            kept = 0 if gone else old
            new = (kept, ALL_ZERO) if self._extended else (kept | FLAG_ZERO, 0)
        return None if new == (old, bitmap) else new

    def _change(self, table: array[int], index: int, guest: int, how: Removal) -> None:
        new = self._new(table, index, how)
        if new is None:
            return
        at = 2 * index if self._extended else index
        if (table[at] ^ new[0]) & (OFFSET_MASK | FLAG_COMPRESSED):
            held = self._meta.clusters_of(table[at], guest)
            self._meta.refcounts.release(*held)
        table[at] = new[0]
        if self._extended:
            table[at + 1] = new[1]
