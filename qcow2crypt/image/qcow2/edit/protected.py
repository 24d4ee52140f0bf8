"""Which host clusters hold metadata: no guest byte may be written there, none may be given out.

Refcounts should see to that; in a damaged image they may be wrong, and then this is what keeps
the tables whole.  It knows the header, the active L1 table and its L2 tables, the refcount table
and blocks, the snapshot table and the L1 tables of snapshots.  Knows cluster numbers only.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable


class ProtectedClusters:
    """A set of cluster numbers: long ranges and single ones.

    Long ranges take no more memory than short ones, whatever a header claims.
    """

    def __init__(self) -> None:
        self._single: set[int] = set()
        self._ranges: list[tuple[int, int]] = []
        """Sorted; they may overlap in a damaged image, see ``_reach``."""
        self._reach: list[int] = []
        """The highest end of all ranges up to each one."""

    def __contains__(self, cluster: int) -> bool:
        if cluster in self._single:
            return True
        at = bisect_right(self._ranges, (cluster, 1 << 64)) - 1
        return at >= 0 and cluster < self._reach[at]

    def end(self) -> int:
        """The number behind the last of them; 0 when there is none."""
        return max(*self._reach[-1:], *(cluster + 1 for cluster in self._single), 0, 0)

    def add(self, cluster: int) -> None:
        """Protect one cluster: an L2 table, a refcount block."""
        self._single.add(cluster)

    def discard(self, clusters: Iterable[int]) -> None:
        """These single clusters are free now."""
        self._single.difference_update(clusters)

    def add_range(self, first: int, count: int) -> None:
        """Protect ``count`` clusters from ``first`` on."""
        if count:
            insort(self._ranges, (first, first + count))
            self._find_reach()

    def remove_range(self, first: int, count: int) -> None:
        """Undo one ``add_range``."""
        if count:
            self._ranges.remove((first, first + count))
            self._find_reach()

    def _find_reach(self) -> None:
        highest = 0
        self._reach = [highest := max(highest, end) for _, end in self._ranges]
