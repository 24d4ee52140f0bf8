"""Give out host clusters in the places where QEMU would, and keep the refcounts.

Knows cluster numbers; never sees bytes.  It serves one kind of file: a fresh one that grows
and in which every used cluster has refcount 1, but for those that compressed clusters share.
So refcounts need little memory: a cluster is used unless it lies behind the frontier or in one
of a few holes, and only what is counted beyond 1 is kept.

The rules, seen on files made by qemu-img (the tests hold ours against it byte for byte):
- First fit: a search starts at a moving index, which a freed cluster moves back.
- A range without a refcount block gets one in the next free place *after* the clusters that
  were about to be counted; those are then searched for again.
- When the refcount table is full, a table half as large again is put at the next place that
  a new refcount block begins to cover, behind the blocks that describe it; the old one is freed.
- Compressed clusters are packed byte after byte; they go on in the next host cluster only where
  the search finds just that one.
- An area that is taken in one piece (preallocation) begins with the missing refcount blocks for
  it and a new refcount table of exactly the size needed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.refcountblock import refcount_max, refcounts_per_block
from qcow2crypt.units import div_up

_TABLE_ENTRY_BYTES = 8


class ClusterRange(NamedTuple):
    """``clusters`` host clusters from cluster number ``first`` on."""

    first: int
    clusters: int

    @property
    def end(self) -> int:
        """The cluster number behind the last one."""
        return self.first + self.clusters


class Allocator:
    """The refcounts of a fresh image: header, refcount table and first block are in use.

    ``table`` is where the refcount table lies; ``blocks[i]`` the cluster number of refcount
    block ``i``, None where there is none.
    """

    def __init__(self, cluster_size: int, refcount_order: int = 4) -> None:
        self.cluster_size = cluster_size
        self.refcounts_per_block = refcounts_per_block(cluster_size, refcount_order)
        self.table = ClusterRange(1, 1)
        self.blocks: list[int | None] = [2]
        self.frontier = 3
        """Every cluster from here on is free."""
        self.holes: list[tuple[int, int]] = []
        """Free clusters before the frontier: sorted (first, end) pairs, apart from each other."""
        self.retired: list[tuple[ClusterRange, tuple[int | None, ...]]] = []
        """Former refcount tables: where they lay and what they held.  Their bytes stay."""
        self.shared = ClusterCounts()
        """How often a cluster is used beyond the first time, by compressed clusters."""
        self._shared_max = refcount_max(refcount_order) - 1
        self._bytes_from = 0
        self._next = 0

    def allocate(self, count: int) -> int:
        """Take ``count`` consecutive clusters; gives the number of the first."""
        while True:
            first = self._find(count)
            missing = self._range_without_block(first, count)
            if missing is None:
                self._take(first, count)
                return first
            self._add_block(missing, first)
            self._next = min(self._next, first)

    def allocate_at(self, first: int, count: int) -> int:
        """Take up to ``count`` clusters from ``first`` on, as many as are free; gives how many."""
        while free := self._free_run(first, count):
            missing = self._range_without_block(first, free)
            if missing is None:
                self._take(first, free)
                return free
            # What can be counted already is; the block goes behind it, and all is tried again.
            counted = max(0, missing * self.refcounts_per_block - first)
            if counted:
                self._take(first, counted)
            self._add_block(missing, first)
            if counted:
                self.free(first, counted)
            self._next = min(self._next, first)
        return 0

    def straight(self, counts: Sequence[int]) -> list[tuple[int, int]]:
        """What ``allocate`` would give for one count after another, as long as that is plain.

        Plain is: behind all that is used, with at most one new refcount block behind each, whose
        place in the refcount table is there.  For each count the first cluster, and the index of
        the refcount block that follows it, or -1.  Nothing is taken yet: ``take_straight``.
        """
        first = self.frontier
        if self._next > first or (self.holes and self.holes[-1][1] > self._next):
            return []
        found = []
        blocks, per_block = self.blocks, self.refcounts_per_block
        room = self.table.clusters * self.cluster_size // _TABLE_ENTRY_BYTES
        index = first // per_block
        limit = index * per_block  # all before it can be counted
        for count in counts:
            end = first + count
            while end > limit and index < len(blocks) and blocks[index] is not None:
                index += 1
                limit += per_block
            if end <= limit:
                found.append((first, -1))
                first = end
            elif end < limit + per_block and index < room:
                found.append((first, index))
                first = end + 1
                index += 1
                limit += per_block
            else:
                break
        return found

    def take_straight(self, counts: Sequence[int], found: Sequence[tuple[int, int]]) -> None:
        """Take what ``straight`` found for these counts, at least one and perhaps not all."""
        number = len(counts) - 1
        for count, (first, index) in zip(counts, found, strict=False):
            if index >= 0:
                self._set_block(index, first + count)
        first, index = found[number]
        self.frontier = self._next = first + counts[number] + (index >= 0)

    def restart(self) -> None:
        """Begin the next search at the first cluster, as after opening a file."""
        self._next = 0

    def allocate_bytes(self, length: int) -> int:
        """Take ``length`` bytes for a compressed cluster, less than one cluster; gives the offset.

        They begin behind the last such bytes, unless too little is free there.
        """
        size = self.cluster_size
        start = self._bytes_from
        if start and self.shared[start // size] >= self._shared_max:
            start = 0
        while True:
            room = -start % size
            if room < length:
                cluster = self._find(1)
                if not room or cluster * size != start + room:
                    start = cluster * size
            first, last = start // size, (start + length - 1) // size
            missing = self._range_without_block(first, last - first + 1)
            if missing is None:
                break
            self._add_block(missing, first)
            self._next = min(self._next, first)
            start = 0
        for cluster in range(first, last + 1):
            if self._free_run(cluster, 1):
                self._take(cluster, 1)
            else:
                self.shared.add(cluster)
        end = start + length
        self._bytes_from = end if end % size else 0
        return start

    def allocate_area(self, count: int, more: int) -> int:
        """Take ``count`` clusters behind the end of the file; gives the number of the first.

        Refcount blocks are made for them and for ``more`` clusters that follow later.
        """
        per_block = self.refcounts_per_block
        start = self.frontier
        total = self._blocks_for(start + count + more, generous=False)
        self.blocks.extend([None] * (total - len(self.blocks)))
        missing = [n for n in range(start // per_block, total) if self.blocks[n] is None]
        table = ClusterRange(
            start + len(missing), div_up(total * _TABLE_ENTRY_BYTES, self.cluster_size)
        )
        old, self.table = self.table, table
        self.retired.append((old, tuple(self.blocks)))
        self._take(start, table.end + count - start)
        for place, number in enumerate(missing, start):
            self._set_block(number, place)
        self.free(old.first, old.clusters)
        return table.end

    def free_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """The free clusters from ``first`` to before ``end``, as (first, end) pairs."""
        holes = self.holes
        at = bisect_left(holes, (first,))
        if at and holes[at - 1][1] > first:
            at -= 1
        ranges = holes[at : bisect_left(holes, (end,), at)]
        if end > self.frontier:
            ranges.append((self.frontier, end))
        return [(max(start, first), min(stop, end)) for start, stop in ranges]

    def free(self, first: int, count: int) -> None:
        """Give clusters back; the search for free ones may start with them."""
        insort(self.holes, (first, first + count))
        self._merge_holes()
        self._next = min(self._next, first)

    def _find(self, count: int) -> int:
        """First fit from the moving index on; the index moves behind what was found."""
        if self.holes and self.holes[-1][1] - self._next >= count:
            for first, end in self.holes:
                start = max(first, self._next)
                if end - start >= count:
                    self._next = start + count
                    return start
        start = max(self.frontier, self._next)
        self._next = start + count
        return start

    def _free_run(self, first: int, limit: int) -> int:
        """How many clusters from ``first`` on are free, at most ``limit``."""
        if first >= self.frontier:
            return limit
        for start, end in self.holes:
            if start <= first < end:
                return min(limit, end - first)
        return 0

    def _take(self, first: int, count: int) -> None:
        end = first + count
        if first >= self.frontier:
            if first > self.frontier:
                self.holes.append((self.frontier, first))
            self.frontier = end
            return
        for i, (start, stop) in enumerate(self.holes):
            if start <= first < stop:
                rest = [(start, first), (end, stop)]
                self.holes[i : i + 1] = [(a, b) for a, b in rest if a < b]
                return

    def _merge_holes(self) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in self.holes:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        if merged and merged[-1][1] == self.frontier:
            self.frontier = merged.pop()[0]
        self.holes = merged

    def _range_without_block(self, first: int, count: int) -> int | None:
        per_block = self.refcounts_per_block
        for index in range(first // per_block, (first + count - 1) // per_block + 1):
            if index >= len(self.blocks) or self.blocks[index] is None:
                return index
        return None

    def _add_block(self, index: int, first: int) -> None:
        """Make refcount block ``index``, for clusters that were to be taken from ``first`` on."""
        per_block = self.refcounts_per_block
        block = self._find(1)
        home = block // per_block
        if home != index and self._range_without_block(block, 1) is not None:
            # The block itself cannot be counted yet: that comes first, then all is tried again.
            self._add_block(home, block)
            return
        if index >= self.table.clusters * self.cluster_size // _TABLE_ENTRY_BYTES:
            counting = max(first, index * per_block)
            self._grow_table(div_up(max(counting, block) + 1, per_block))
        self._take(block, 1)
        self._set_block(index, block)

    def _grow_table(self, start_index: int) -> None:
        """Put a larger table where the range of block ``start_index`` begins."""
        per_block = self.refcounts_per_block
        start = start_index * per_block
        total = self._blocks_for(start, generous=True)
        area_blocks = total - start_index
        entries = total + div_up(total, 2)
        old = self.table
        first = start + area_blocks
        count = div_up(entries * _TABLE_ENTRY_BYTES, self.cluster_size)
        self.retired.append((old, tuple(self.blocks)))
        self._take(start, area_blocks + count)
        for number in range(area_blocks):
            self._set_block(start_index + number, start + number)
        self.table = ClusterRange(first, count)
        self.free(old.first, old.clusters)

    def _blocks_for(self, clusters: int, *, generous: bool) -> int:
        """Blocks for a file of so many clusters and its refcount metadata.

        Room is reckoned for all blocks, old ones too, and for a table half as large again if
        ``generous``.
        """
        blocks, spare = 0, 0
        for _ in range(2 if generous else 1):
            while True:
                table = div_up(blocks * _TABLE_ENTRY_BYTES, self.cluster_size)
                needed = div_up(clusters + spare + blocks + table, self.refcounts_per_block)
                if needed == blocks:
                    break
                blocks = needed
            spare = div_up(table, 2)
        return blocks

    def _set_block(self, index: int, cluster: int) -> None:
        self.blocks.extend([None] * (index + 1 - len(self.blocks)))
        self.blocks[index] = cluster
