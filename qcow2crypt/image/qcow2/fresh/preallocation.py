"""Places for all guest clusters of a new file at once, where qemu-img puts them.

Knows cluster numbers; writes nothing.  The rules were seen on files made by qemu-img:
- metadata: for each L2 table the table and then its clusters, in requests of up to 2 GiB;
- falloc and full: one area behind the file with missing refcount blocks, a new refcount table
  and all clusters; then the L2 tables where there is room;
- with an external data file: the L2 tables alone, a cluster lies there at its guest offset.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from qcow2crypt.image.qcow2.entries import FLAG_COPIED
from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.units import div_up

_REQUEST_BYTES_MAX = 2**31 - 1


class Plan:
    """Where each of ``clusters`` guest clusters lies, kept as runs; fills the L1 table ``l1``."""

    def __init__(self, l1: array[int], l2_entries: int, clusters: int, cluster_size: int) -> None:
        self._l1 = l1
        self._l2_entries = l2_entries
        self._clusters = clusters
        self._cluster_size = cluster_size
        self._guest = array("Q")
        self._host = array("Q")

    def entries(self, l1_index: int) -> Iterator[tuple[int, int, int]]:
        """For one L2 table: (index, host offset, how many clusters) in guest order."""
        first = l1_index * self._l2_entries
        end = min(first + self._l2_entries, self._clusters)
        number = bisect_right(self._guest, first) - 1
        while first < end:
            last = self._clusters
            if number + 1 < len(self._guest):
                last = self._guest[number + 1]
            count = min(last, end) - first
            host = self._host[number] + first - self._guest[number]
            yield first - l1_index * self._l2_entries, host * self._cluster_size, count
            first += count
            number += 1

    @property
    def last_host(self) -> int:
        """Host offset of the last guest cluster; there is one."""
        return (self._host[-1] + self._clusters - 1 - self._guest[-1]) * self._cluster_size

    def with_metadata(self, allocator: Allocator) -> None:
        """Table, clusters, table, clusters: what preallocation=metadata does."""
        most = _REQUEST_BYTES_MAX // self._cluster_size
        position = 0
        while position < self._clusters:
            position += self._place(allocator, position, min(most, self._clusters - position))

    def _place(self, allocator: Allocator, position: int, length: int) -> int:
        """Places for up to ``length`` clusters that lie in one piece; gives how many."""
        start = done = 0
        while done < length:
            at = position + done
            self._need_l2(allocator, at // self._l2_entries)
            wanted = min(length - done, self._l2_entries - at % self._l2_entries)
            if done:
                got = allocator.allocate_at(start + done, wanted)
                if not got:
                    break
            else:
                start, got = allocator.allocate(wanted), wanted
            done += got
        self._add(position, start)
        return done

    def with_area(self, allocator: Allocator) -> int:
        """One area: what preallocation=falloc and full do.  Gives its host offset."""
        tables = div_up(self._clusters, self._l2_entries) + 1
        start = allocator.allocate_area(self._clusters, tables)
        if self._clusters:
            self._add(0, start)
        self._need_all_l2(allocator)
        return start * self._cluster_size

    def with_data_file(self, allocator: Allocator) -> None:
        """The L2 tables alone."""
        if self._clusters:
            self._add(0, 0)
        self._need_all_l2(allocator)

    def _need_all_l2(self, allocator: Allocator) -> None:
        for index in range(div_up(self._clusters, self._l2_entries)):
            self._need_l2(allocator, index)

    def _need_l2(self, allocator: Allocator, index: int) -> None:
        if not self._l1[index]:
            self._l1[index] = allocator.allocate(1) * self._cluster_size | FLAG_COPIED

    def _add(self, guest: int, host: int) -> None:
        self._guest.append(guest)
        self._host.append(host)
