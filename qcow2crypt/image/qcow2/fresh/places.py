"""Give guest ranges of a new file their places, table by table, in ascending order.

Joins the allocator, the tables and a plan made before; sees no guest bytes and writes nothing.
Tables that are full are handed over in ``take_tables``, for the writer to store.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache

from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, FLAG_COPIED, OFFSET_MASK
from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.l2 import FreshL2, growing
from qcow2crypt.image.qcow2.fresh.preallocation import Plan
from qcow2crypt.units import div_up


class Places:
    """Places for the clusters whose tables the L1 table ``l1`` names; it is filled in here.

    ``external``  clusters lie in a data file, at their guest offsets
    ``plan``      the places that were given before, and ``plan_stored``, whether such a cluster
                  counts as stored before anybody writes it
    """

    def __init__(
        self,
        allocator: Allocator,
        l1: array[int],
        l2: FreshL2,
        cluster_size: int,
        *,
        external: bool = False,
        plan: Plan | None = None,
        plan_stored: bool = False,
    ) -> None:
        self._allocator = allocator
        self._l1 = l1
        self.l2 = l2
        self._cluster_size = cluster_size
        self._coverage = cluster_size * l2.entries
        self._external = external
        self._plan = plan
        self._plan_stored = plan_stored
        self._plain = plan is None and not external and not l2.extended
        self._l2_index = -1
        self._tables: list[tuple[int, bytes]] = []

    def locate(self, position: int, length: int) -> tuple[int, int, tuple[bool, bool]]:
        """A host offset for ``position`` and how many bytes lie in one piece there.

        They count as stored now; the flags tell whether the first and the last unit did not yet.
        """
        size, l2 = self._cluster_size, self.l2
        start = done = 0
        first_fresh = last_fresh = False
        while done < length:
            at = position + done
            index, within = self.index(at), at % size
            wanted = div_up(within + length - done, size)
            wanted = min(wanted, l2.entries - index)
            new = not l2.placed(index)
            if new:
                host, clusters = self._new_clusters(at - within, wanted, start + done, bool(done))
            else:
                host, clusters = l2.host(index), l2.run(index, wanted)
            if done and (not clusters or host != start + done):
                break
            part = min(clusters * size - within, length - done)
            if not done:
                start = host + within
            if new and not l2.extended:
                # All of them are touched: they are stored from the beginning.
                l2.place(index, host, clusters, stored=True)
                first_fresh = first_fresh or not done
                last_fresh = True
            else:
                if new:
                    l2.place(index, host, clusters)
                if not done:
                    first_fresh = not l2.is_stored(index, within)
                last = within + part - 1
                last_fresh = not l2.is_stored(index + last // size, last % size)
                l2.store(index, within, part)
            done += part
        return start, done, (first_fresh, last_fresh)

    def locate_tables(self, position: int, length: int, most: int) -> list[tuple[int, int]]:
        """Places for all clusters of the next L2 tables at once: (host offset, bytes) in turn.

        As ``locate`` would give them in requests of at most ``most`` bytes.  Nothing where
        ``position`` is not where a table begins, or where the allocator has to look for room.
        """
        tables, l2 = length // self._coverage, self.l2
        if not tables or position % self._coverage or not self._plain:
            return []
        l1_index = position // self._coverage
        begun = l1_index == self._l2_index  # then it has its place, and nothing is in it
        parts = _parts(l2.entries, most // self._cluster_size)
        counts = ((1, *parts) * tables + (1,))[begun:]
        found = self._allocator.straight(counts)
        row = len(parts) + 1
        # A part may go on in the table behind, so that must have its place, too.
        tables = (len(found) + begun - 1) // row
        if tables <= 0:
            return []
        used = tables * row - begun
        self._allocator.take_straight(counts[:used], found)
        firsts = [first for first, _ in found[:used]]
        if begun:
            firsts.insert(0, (self._l1[l1_index] & OFFSET_MASK) // self._cluster_size)
        else:
            self._close_table()
        self._l2_index = -1  # what is in memory is no table
        return self._store_tables(l1_index, firsts, parts)

    def _store_tables(
        self, l1_index: int, firsts: list[int], parts: tuple[int, ...]
    ) -> list[tuple[int, int]]:
        """Make whole L2 tables: ``firsts`` has the cluster of each table and of its parts."""
        size, row, entries = self._cluster_size, len(parts) + 1, self.l2.entries
        start, apart = firsts[1], entries - parts[-1]
        packed = growing(start * size, firsts[-1] + parts[-1] - start, size)
        places = []
        for at in range(0, len(firsts), row):
            first = firsts[at + 1]
            if firsts[at + row - 1] - first == apart:
                runs: Sequence[tuple[int, int]] = ((first, entries),)
            else:
                runs = list(zip(firsts[at + 1 : at + row], parts, strict=True))
            content = []
            for host, count in runs:
                places.append((host * size, count * size))
                place = (host - start) * ENTRY_SIZE
                content.append(packed[place : place + count * ENTRY_SIZE])
            table = firsts[at] * size
            self._l1[l1_index] = table | FLAG_COPIED
            self._tables.append((table, b"".join(content)))
            l1_index += 1
        return places

    def _new_clusters(self, guest: int, wanted: int, host: int, more: bool) -> tuple[int, int]:
        """Host offset and number of clusters for ``guest``; ``more``: only at ``host``."""
        if self._external:
            return guest, wanted
        if more:
            return host, self._allocator.allocate_at(host // self._cluster_size, wanted)
        return self._allocator.allocate(wanted) * self._cluster_size, wanted

    def index(self, position: int) -> int:
        """The index of a guest offset in its L2 table, which becomes the present one."""
        self.need_table(position // self._coverage)
        return position % self._coverage // self._cluster_size

    def need_table(self, l1_index: int) -> None:
        """Go on to an L2 table; behind the last one only finish those before it."""
        if l1_index == self._l2_index:
            return
        self._close_table()
        if self._plan is None:
            self._l1[l1_index] = self._allocator.allocate(1) * self._cluster_size | FLAG_COPIED
        else:
            # Tables that are passed over have their entries, too.
            for passed in range(self._l2_index + 1, l1_index):
                self._load(self._plan, passed)
                self._close_table()
            if l1_index < len(self._l1):
                self._load(self._plan, l1_index)
        self._l2_index = l1_index

    def finish(self) -> None:
        """All tables are full now."""
        if self._plan is not None:
            self.need_table(len(self._l1))
        self._close_table()
        self._l2_index = len(self._l1)

    def take_tables(self) -> list[tuple[int, bytes]]:
        """The full tables that were not taken yet: host offset and bytes."""
        tables, self._tables = self._tables, []
        return tables

    def _load(self, plan: Plan, l1_index: int) -> None:
        """Begin an L2 table with the places that are planned."""
        self._l2_index = l1_index
        for index, host, count in plan.entries(l1_index):
            self.l2.place(index, host, count, stored=self._plan_stored)

    def _close_table(self) -> None:
        if 0 <= self._l2_index < len(self._l1):
            self._tables.append((self._l1[self._l2_index] & OFFSET_MASK, self.l2.packed()))
            self.l2.clear()


@lru_cache(maxsize=2)
def _parts(count: int, most: int) -> tuple[int, ...]:
    """``count`` clusters in parts of at most ``most``."""
    return tuple(min(most, count - done) for done in range(0, count, most))
