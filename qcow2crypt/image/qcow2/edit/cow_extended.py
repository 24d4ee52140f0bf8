"""Copy on write for extended L2 entries: what is filled and copied is subclusters.

A new host cluster gets the subclusters that are written, filled up from the old view, and a
copy of those that had data; the others keep their state, and their bytes in the file are never
shown.  Else as ``cow``.  Source: the qcow2 document, "Extended L2 Entries".
"""

from __future__ import annotations

from array import array

from qcow2crypt.errors import MappingError
from qcow2crypt.image.qcow2.edit.cow import ClusterWriter
from qcow2crypt.image.qcow2.entries import FLAG_COMPRESSED, FLAG_COPIED, OFFSET_MASK
from qcow2crypt.image.qcow2.header import SUBCLUSTERS
from qcow2crypt.image.qcow2.subclusters import (
    ALL_ALLOCATED,
    SUBCLUSTER_BITS,
    bit_range,
    is_valid,
)


class SubclusterWriter(ClusterWriter):
    """Writes guest bytes to an image with extended L2 entries, cluster by cluster."""

    def _write_some(self, data: memoryview, position: int) -> int:
        meta, size = self._meta, self._size
        l1_index = position >> self._coverage_bits
        index = (position >> self._bits) & self._index_mask
        table = meta.table(l1_index)
        if table is None or not meta.l1[l1_index] & FLAG_COPIED:
            table = meta.edit_table(l1_index)
        start = position & -size
        data = data[: start + size - position]
        entry, bitmap = table[2 * index : 2 * index + 2]
        sub_bits = self._bits - SUBCLUSTER_BITS
        touched = bit_range(
            position - start >> sub_bits, position + data.nbytes - 1 - start >> sub_bits
        )
        host = entry & OFFSET_MASK
        if not entry & FLAG_COMPRESSED and not is_valid(
            bitmap, has_host_cluster=bool(host or self._external)
        ):
            raise MappingError(
                "bitmap of an extended L2 entry is not valid",
                field="L2 entry bitmap",
                offset=None,
                found=f"{bitmap:#018x}",
                allowed="no subcluster both allocated and zero, none allocated without a cluster",
                guest_offset=start,
            )
        ours = not entry & FLAG_COMPRESSED and (
            entry & FLAG_COPIED or (self._external and bitmap & ALL_ALLOCATED)
        )
        if ours:
            meta.check_place(host, position, entry)
            if touched & ~bitmap & ALL_ALLOCATED == 0:
                self._put(data, host + position - start, position)
                return data.nbytes
        table = meta.edit_table(l1_index)
        if ours:
            self._fill(data, position, host, touched)
            table[2 * index + 1] = _allocated(bitmap, touched)
            return data.nbytes
        self._move(table, index, data, position, touched)
        return data.nbytes

    def _move(
        self, table: array[int], index: int, data: memoryview, position: int, touched: int
    ) -> None:
        """Give a cluster a new place: what is written and what it had of data."""
        meta = self._meta
        entry, bitmap = table[2 * index : 2 * index + 2]
        start = position & -self._size
        held = meta.clusters_of(entry, position)
        if entry & FLAG_COMPRESSED:
            bitmap = ALL_ALLOCATED
        filled = touched | bitmap & ALL_ALLOCATED
        first, _ = self._allocate(1, start)
        try:
            self._fill(data, position, first << self._bits, filled)
        except BaseException:
            if not self._external:
                meta.refcounts.give_back(first, 1)
            raise
        table[2 * index] = first << self._bits | FLAG_COPIED
        table[2 * index + 1] = _allocated(bitmap, filled)
        meta.refcounts.release(*held)

    def _fill(self, data: memoryview, position: int, host: int, bits: int) -> None:
        """Write whole subclusters to the host cluster at ``host``: old view and data."""
        start = position & -self._size
        sub = self._size // SUBCLUSTERS
        number = 0
        while bits >> number:
            if not bits >> number & 1:
                number += 1
                continue
            first = number
            while bits >> number & 1:
                number += 1
            self._fill_run(data, position, host, (start + first * sub, start + number * sub))

    def _fill_run(self, data: memoryview, position: int, host: int, place: tuple[int, int]) -> None:
        first, last = place
        body = memoryview(bytearray(last - first))
        begin = min(max(position, first), last)
        end = max(min(position + data.nbytes, last), begin)
        if first < begin:
            self._old_view(body[: begin - first], first)
        if begin < end:
            body[begin - first : end - first] = data[begin - position : end - position]
        if end < last:
            self._old_view(body[end - first :], end)
        self._put_whole(body, host + (first & (self._size - 1)), first)


def _allocated(bitmap: int, bits: int) -> int:
    """The bitmap after these subclusters got data."""
    return (bitmap | bits) & ~(bits << SUBCLUSTERS)
