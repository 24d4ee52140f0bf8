"""The refcounts that stand in the file, held against those that ought to.

Source: the qcow2 document, "Refcounts".  Blocks are read one by one, so a large file costs time
and little memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bulk.switch import read_refcount_table
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.order import InOrder
from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.image.qcow2.refcountblock import (
    pack_refcounts,
    refcounts_per_block,
    small_refcounts,
    unpack_refcounts,
)

_KEPT_BYTES = 8 << 20
_PIECE = 1 << 8
_OFFSET_MAX = 2**63 - 1


class StoredRefcounts:
    """The refcounts of one file, as they are."""

    def __init__(self, file: HostFile, header: Header) -> None:
        self._file = file
        self.block_size = header.cluster_size
        self._order = header.refcount_order
        self._table = read_refcount_table(file, header)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self.per_block = refcounts_per_block(header.cluster_size, header.refcount_order)

    def read(self, index: int) -> bytes | None:
        """The bytes of block ``index``, empty where there is none; None if its place cannot be.

        Any thread may read.
        """
        offset = self.offset(index)
        if not offset:
            return b""
        if offset % self.block_size or offset + self.block_size > _OFFSET_MAX:
            return None
        return self._file.pread(self.block_size, offset)

    def block(self, index: int) -> bytes | None:
        """As ``read``, and kept for a while."""
        offset = self.offset(index)
        data = self._kept.get(offset)
        if data is None:
            data = self.read(index)
            if data:
                self._kept[offset] = data
                if len(self._kept) > max(1, _KEPT_BYTES // self.block_size):
                    self._kept.popitem(last=False)
        return data

    def __getitem__(self, cluster: int) -> int | None:
        index, place = divmod(cluster, self.per_block)
        data = self.block(index)
        if not data:
            return None if data is None else 0
        bits = 1 << self._order
        if bits >= 8:
            width = bits // 8
            return int.from_bytes(data[place * width : (place + 1) * width], "big")
        at = place * bits
        return data[at // 8] >> at % 8 & (1 << bits) - 1

    def slice(self, first: int, count: int) -> Sequence[int | None]:
        """The refcounts of ``count`` clusters from ``first`` on."""
        parts: list[Sequence[int | None]] = []
        while count > 0:
            index, place = divmod(first, self.per_block)
            length = min(count, self.per_block - place)
            parts.append(self._part(index, place, length))
            first, count = first + length, count - length
        return parts[0] if len(parts) == 1 else [one for part in parts for one in part]

    def _part(self, index: int, place: int, length: int) -> Sequence[int | None]:
        data = self.block(index)
        if not data:
            return [None] * length if data is None else bytes(length)
        start = place << self._order
        end = start + (length << self._order)
        counts = unpack_refcounts(data[start // 8 : -(-end // 8)], self._order)
        skip = start % 8 >> self._order
        return counts[skip : skip + length]

    def indexes(self, counts: ClusterCounts, clusters: int) -> Iterator[int]:
        """The numbers of the blocks that exist, or that ``counts`` needs."""
        end = -(-clusters // self.per_block)
        there = {i for i, offset in enumerate(self._table[:end]) if offset}
        there.update(index for index in counts.used_ranges(self.per_block) if index < end)
        yield from sorted(there)

    def offset(self, index: int) -> int:
        """The host offset of block ``index``, 0 where there is none."""
        return self._table[index] if index < len(self._table) else 0


class Comparison:
    """What comes out when the refcounts of the file are held against a census.

    ``equal``    there is no difference
    ``corruptions``  so many clusters are counted too seldom
    ``rebuild``  a cluster that is used has refcount 0, so it may be given away at any time
    ``leaks``    the blocks that count clusters too often
    ``end``      one more than the highest cluster that is counted or used
    """

    def __init__(
        self, stored: StoredRefcounts, counts: ClusterCounts, clusters: int, order: int
    ) -> None:
        self.rebuild = False
        self.corruptions = 0
        self.equal = True
        self.leaks: list[int] = []
        self.end = 1
        self._stored = stored
        self._counts = counts
        self._clusters = clusters
        self._order = order

    def run(self, findings: Findings, in_order: InOrder) -> None:
        """Compare all clusters.  Every difference is a finding."""
        in_order(
            self._stored.indexes(self._counts, self._clusters),
            self._stored.read,
            lambda index, data: self._compare(index, data, findings),
            self._stored.block_size,
        )

    def _compare(self, index: int, data: bytes | None, findings: Findings) -> None:
        per_block = self._stored.per_block
        first = index * per_block
        count = min(per_block, self._clusters - first)
        if data is None:
            self.equal = False
            findings.error(f"cannot get the refcounts from cluster {first} on", count)
            return
        wanted = self._counts.slice(first, per_block)
        if data and data == pack_refcounts(wanted, self._order):
            self._reach(first, wanted[:count])
            return
        found = small_refcounts(data, self._order) if data else bytes(per_block)
        self._block(index, first, found[:count], wanted[:count], findings)

    def _reach(self, first: int, counts: Sequence[int]) -> None:
        """Note the highest cluster in use."""
        if isinstance(counts, bytes):
            used = len(counts.rstrip(b"\0"))
        else:
            used = max((place for place, count in enumerate(counts, 1) if count), default=0)
        if used:
            self.end = max(self.end, first + used)

    def _block(
        self,
        index: int,
        first: int,
        found: Sequence[int],
        wanted: Sequence[int],
        findings: Findings,
    ) -> None:
        self._reach(first, found)
        self._reach(first, wanted)
        leaks = False
        for start in range(0, len(found), _PIECE):
            pieces = found[start : start + _PIECE], wanted[start : start + _PIECE]
            if pieces[0] != pieces[1]:
                leaks = self._piece(first + start, *pieces, findings) or leaks
        if leaks:
            self.leaks.append(index)

    def _piece(
        self, first: int, found: Sequence[int], wanted: Sequence[int], findings: Findings
    ) -> bool:
        """Every difference is a finding; True if there is a leak."""
        leaks = False
        for cluster, (has, needs) in enumerate(zip(found, wanted, strict=True), first):
            if has == needs:
                continue
            self.equal = False
            text = f"cluster {cluster} refcount={has} reference={needs}"
            if has < needs:
                self.rebuild = self.rebuild or not has
                self.corruptions += 1
                findings.corruption(text)
            else:
                leaks = True
                findings.leak(text)
        return leaks

    def without_leaks(self, index: int) -> bytes:
        """Block ``index`` with every count lowered to what it ought to be, never raised."""
        data = self._stored.block(index) or b""
        first = index * self._stored.per_block
        found = unpack_refcounts(data, self._order)
        wanted = self._counts.slice(first, len(found))
        inside = self._clusters - first
        lowered = [
            min(pair) if place < inside else pair[0]
            for place, pair in enumerate(zip(found, wanted, strict=True))
        ]
        return pack_refcounts(lowered, self._order)
