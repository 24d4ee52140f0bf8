"""References to regions of the file, counted by cluster.  A region outside is a finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.image.qcow2.refcountblock import refcount_max
from qcow2crypt.units import SECTOR_SIZE, align_up, div_up

L2_TABLE, DATA_CLUSTER, COMPRESSED_CLUSTER = "L2 table", "data cluster", "compressed cluster"
# What is kept of what lies outside: a table of the largest size, and in all some 64 MiB of counts.
_OUTSIDE_MAX = 1 << 20
_OUTSIDE_CHUNKS_MAX = 4096


def overlapping(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Cut ranges that may overlap into pieces (start, end, how many ranges hold it), in order.

    >>> list(overlapping([(0, 4), (2, 6), (2, 4)]))
    [(0, 2, 1), (2, 4, 3), (4, 6, 1)]
    """
    edges: Counter[int] = Counter()
    for start, end in ranges:
        edges[start] += 1
        edges[end] -= 1
    times = 0
    for start, end in pairwise(sorted(edges)):
        times += edges[start]
        if times:
            yield start, end, times


class References:
    """Counts the clusters that regions touch.

    ``file_length`` is the file's, in whole sectors as QEMU has it; ``clusters`` those up to there.
    ``outside`` has the clusters behind the end that something names: nothing new may go there.
    """

    def __init__(self, file: HostFile, header: Header, findings: Findings) -> None:
        self.counts = ClusterCounts()
        self.outside = ClusterCounts()
        self.file_length = align_up(file.size, SECTOR_SIZE)
        self.clusters = div_up(self.file_length, header.cluster_size)
        self.bits = header.cluster_bits
        self.limit = self.file_length + header.cluster_size
        """A region must end before: the last cluster of a file may be cut short."""
        self.far = False
        """So much lies outside that ``outside`` does not have it all."""
        self.max = refcount_max(header.refcount_order)
        self._findings = findings

    def region(self, offset: int, length: int, what: str, times: int = 1) -> bool:
        """Count every cluster that the region touches ``times`` more.  False if it counts none."""
        if length <= 0:
            return False
        first, end = offset >> self.bits, (offset + length - 1 >> self.bits) + 1
        if self._is_outside(offset, length, what, times):
            self._count_outside(first, end, times)
            return False
        self.counts.add_run(first, end - first, times)
        return True

    def tables(self, ranges: Sequence[tuple[int, int]], what: str) -> None:
        """Count tables, given as offset and end, that may overlap each other many times."""
        inside: list[tuple[int, int]] = []
        outside: list[tuple[int, int]] = []
        for start, stop in ranges:
            if start < stop:
                clusters = (start >> self.bits, (stop - 1 >> self.bits) + 1)
                is_outside = self._is_outside(start, stop - start, what, 1)
                (outside if is_outside else inside).append(clusters)
        for first, end, times in overlapping(inside):
            self.counts.add_run(first, end - first, times)
        for first, end, times in overlapping(outside):
            self._count_outside(first, end, times)

    def _is_outside(self, offset: int, length: int, what: str, times: int) -> bool:
        if offset + length < self.limit:
            return False
        self._findings.corruption(
            f"{what}: counting reference for region exceeding the end of the file by one "
            f"cluster or more: offset {offset:#x} size {length:#x}",
            times,
        )
        return True

    def _count_outside(self, first: int, end: int, times: int) -> None:
        if end - first > _OUTSIDE_MAX or self.outside.chunks > _OUTSIDE_CHUNKS_MAX:
            self.far = True
        else:
            self.outside.add_run(first, end - first, times)

    def overflows(self) -> None:
        """Report the references that the refcount width cannot count, and leave them out."""
        over = self.counts.over(self.max)
        if over:
            text = f"overflow: clusters are used more often than a refcount of {self.max} can say"
            self._findings.corruption(text, over)
            self.counts.clamp(self.max)
