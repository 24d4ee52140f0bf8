"""The L2 tables that L1 tables name: how often each, in memory that the file's length bounds.

Knows host offsets, no file.  A table is looked at once, however often it is named.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from qcow2crypt.image.qcow2.counts import ClusterCounts

_UNALIGNED_MAX = 1 << 18


class NamedTables:
    """Host offsets in a file of ``clusters`` clusters, each with how often it was added.

    Tables that are not cluster aligned overlap: not many more of them are kept than would fill
    the file.
    """

    def __init__(self, clusters: int, cluster_bits: int) -> None:
        self._bits = cluster_bits
        self._aligned = ClusterCounts()
        self._unaligned: dict[int, int] = {}
        self._unaligned_max = min(2 * clusters + 64, _UNALIGNED_MAX)

    def add(self, offset: int, times: int) -> bool:
        """Count one table; False if it is not kept."""
        cluster = offset >> self._bits
        if offset == cluster << self._bits:
            self._aligned.add(cluster, times)
            return True
        if offset not in self._unaligned and len(self._unaligned) >= self._unaligned_max:
            return False
        self._unaligned[offset] = self._unaligned.get(offset, 0) + times
        return True

    def __getitem__(self, offset: int) -> int:
        cluster = offset >> self._bits
        if offset == cluster << self._bits:
            return self._aligned[cluster]
        return self._unaligned.get(offset, 0)

    def __iter__(self) -> Iterator[int]:
        """The offsets, in order."""
        aligned = (cluster << self._bits for cluster in self._aligned.used())
        return heapq.merge(aligned, sorted(self._unaligned)) if self._unaligned else aligned
