"""Host clusters for guest ranges that have none yet, without writing data.

A reserved cluster has the zero flag: it reads as zeros whatever lies in the file, encrypted or
not, and a later write goes to the place that it has.  (QEMU leaves the flag out; then an
encrypted image reads as decrypted zeros there, which is garbage.)

Knows L2 entries and counts, no guest bytes.
"""

from __future__ import annotations

from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.entries import FLAG_COMPRESSED, FLAG_COPIED, FLAG_ZERO, OFFSET_MASK
from qcow2crypt.image.qcow2.subclusters import ALL_ZERO


class ClusterReserver:
    """Reserves clusters of one image, of version 3.  Not thread-safe."""

    def __init__(self, metadata: Metadata) -> None:
        header = metadata.header
        self._meta = metadata
        self._bits = header.cluster_bits
        self._entries = header.l2_entries
        self._extended = header.extended_l2

    def reserve(self, start: int, end: int) -> None:
        """Both are multiples of the cluster size.  Raises TargetError, MappingError, FormatError:
        then a part is reserved.
        """
        number, last = start >> self._bits, end >> self._bits
        while number < last:
            l1_index, index = divmod(number, self._entries)
            count = min(last - number, self._entries - index)
            self._reserve_in_table(l1_index, index, count)
            number += count
            if self._meta.heavy:
                self._meta.commit()

    def _reserve_in_table(self, l1_index: int, index: int, count: int) -> None:
        meta = self._meta
        table = meta.edit_table(l1_index)
        step = 2 if self._extended else 1
        at, end = index, index + count
        while at < end:
            length = 0
            while at + length < end and self._is_free(table[(at + length) * step]):
                length += 1
            if not length:
                at += 1
                continue
            first, length = self._take(l1_index * self._entries + at, length)
            for place in range(length):
                entry = (first + place) << self._bits | FLAG_COPIED
                table[(at + place) * step] = entry if self._extended else entry | FLAG_ZERO
                if self._extended:
                    table[(at + place) * step + 1] = ALL_ZERO
            at += length

    def _take(self, guest_cluster: int, most: int) -> tuple[int, int]:
        meta = self._meta
        if meta.data_file is not None:
            return guest_cluster, most
        first, count = meta.refcounts.allocate_run(most)
        # A file that ends before a cluster that is named would be damaged.
        if (first + count) << self._bits > meta.file.size:
            meta.file.truncate((first + count) << self._bits)
        return first, count

    @staticmethod
    def _is_free(entry: int) -> bool:
        return not entry & (FLAG_COMPRESSED | FLAG_COPIED | OFFSET_MASK)
