"""The refcounts of a file that is being changed: which clusters are free, who takes and gives.

Knows cluster numbers and counts; never sees guest bytes.  Blocks come in as they are needed and
stay in memory while they are dirty.  Nothing here waits for the disk: *when* blocks, table and
header are written, and with which barriers between, is for ``metadata`` to say.

Two rules keep a crash harmless.  A cluster that is released keeps its count until the owner says
that no reference to it is left on disk (``settle``).  A new refcount block or table lies in
clusters that were free, so it is nobody's until the entry that names it is written.

Source: the qcow2 document, "Refcounts".
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import MutableSequence

from qcow2crypt.errors import FormatError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE
from qcow2crypt.image.qcow2.header import REFCOUNT_TABLE_BYTES_MAX, Header
from qcow2crypt.image.qcow2.refcountblock import (
    REFCOUNT_TABLE_OFFSET_MASK,
    pack_refcounts,
    refcount_max,
    refcounts_per_block,
    unpack_refcounts,
)
from qcow2crypt.image.qcow2.tables import pack_table, read_table
from qcow2crypt.units import div_up

_KEPT_BYTES = 4 << 20
"""Clean blocks that are kept in memory."""


class Refcounts:
    """The refcounts of one open file.

    ``file``       the image file, writable
    ``header``     says where the refcount table is and how wide a count is
    ``protected``  the clusters that hold metadata, kept up to date by this class and by the
                   owner: none of them is ever given out, whatever its refcount says

    Raises FormatError when the refcount structures are damaged, TargetError when a cluster that
    is needed cannot be written or counted.  Not thread-safe: the owner has a lock.
    """

    def __init__(self, file: HostFile, header: Header, protected: ProtectedClusters) -> None:
        self._file = file
        self._cluster_size = header.cluster_size
        self._order = header.refcount_order
        self._per_block = refcounts_per_block(header.cluster_size, header.refcount_order)
        self._protected = protected
        self.table_offset = header.refcount_table_offset
        self.table_clusters = header.refcount_table_clusters
        self.table_moved = False
        """True from when a larger table was made until ``table_switched``."""
        entries = self.table_clusters * header.cluster_size // ENTRY_SIZE
        self._table = read_table(file, self.table_offset, entries)
        self._blocks: OrderedDict[int, MutableSequence[int]] = OrderedDict()
        self._dirty: set[int] = set()
        self._dirty_entries: set[int] = set()
        self._released: list[tuple[int, int]] = []
        self._next = 0
        self.filling: int | None = None
        """A cluster that gets more compressed bytes; None once nobody uses it any more."""
        self._protect()

    def _protect(self) -> None:
        """Check the table, and keep all that it names from being given out."""
        size = self._cluster_size
        seen: set[int] = set()
        for index, entry in enumerate(self._table):
            offset = entry & REFCOUNT_TABLE_OFFSET_MASK
            if not offset:
                continue
            if offset % size or offset >= self._file.size or offset in seen:
                raise FormatError(
                    "refcount table entry is not valid",
                    field=f"refcount table entry {index}",
                    offset=self.table_offset + index * ENTRY_SIZE,
                    found=f"{entry:#018x}",
                    allowed=f"a multiple of {size:#x} inside the file that no other entry has",
                )
            seen.add(offset)
            self._protected.add(offset // size)
        self._protected.add_range(self.table_offset // size, self.table_clusters)

    # ------------------------------------------------------------------------- asking

    def get(self, cluster: int) -> int:
        """The refcount of a cluster, with what is not written yet."""
        index, place = divmod(cluster, self._per_block)
        block = self._block(index)
        return 0 if block is None else block[place]

    def end(self) -> int:
        """The number behind the last cluster of the file that is in use."""
        clusters = div_up(self._file.size, self._cluster_size)
        blocks = min(len(self._table), div_up(clusters, self._per_block))
        for index in reversed(range(blocks)):
            block = self._block(index)
            if block is not None and any(block):
                place = max(place for place, count in enumerate(block) if count)
                return index * self._per_block + place + 1
        return 0

    def refuse_to_cut(self) -> None:
        """Raises FormatError when ``end`` is before metadata: the file must not be cut there."""
        clusters = div_up(self._file.size, self._cluster_size)
        if (last := min(self._protected.end(), clusters)) > self.end():
            raise _wrong_count("metadata is counted as free", last - 1)

    @property
    def dirty_bytes(self) -> int:
        """Memory that is held until ``write_blocks`` and ``settle``."""
        return len(self._dirty) * self._cluster_size + 128 * len(self._released)

    @property
    def dirty(self) -> bool:
        """True where the file does not hold all counts yet."""
        return bool(self._dirty or self._dirty_entries or self._released or self.table_moved)

    @property
    def has_releases(self) -> bool:
        """True when clusters wait for ``settle``."""
        return bool(self._released)

    # ------------------------------------------------------------------------- taking

    def allocate(self, count: int) -> int:
        """Take ``count`` consecutive free clusters, each with refcount 1; the first one's number.

        First fit, from a place that moves on.  Where the range needs new refcount blocks, or the
        blocks a larger table, these take the clusters right behind.
        """
        spare = 0
        while True:
            first = self._find(count + spare)
            missing, table_clusters = self._overhead(first, count + spare)
            needed = len(missing) + table_clusters
            if needed <= spare:
                break
            spare = needed
        total = count + needed
        for cluster in range(first, first + total):
            self._refuse_protected(cluster)
        self._add_blocks(missing, first + count)
        if table_clusters:
            self._move_table(first + count + len(missing), table_clusters)
        self._set_ones(first, total)
        self._next = first + total
        return first

    def allocate_run(self, most: int) -> tuple[int, int]:
        """Take up to ``most`` consecutive clusters, as many as are free; first and count."""
        first = self._find(1)
        count = 1
        while count < most and (first + count) % self._per_block and not self.get(first + count):
            count += 1
        return self.allocate(count), count

    def give_back(self, first: int, count: int) -> None:
        """Return clusters that were never referenced by anything, in memory or on disk."""
        for cluster in range(first, first + count):
            self._decrease(cluster)

    def check_used(self, first: int, count: int = 1) -> None:
        """Refuse, with FormatError, to go on where clusters that are in use count as free."""
        for cluster in range(first, first + count):
            if not self.get(cluster):
                raise _wrong_count("a cluster in use is counted as free", cluster)

    def can_share(self, cluster: int) -> bool:
        """Whether a refcount is wide enough for one reference more."""
        return self.get(cluster) < refcount_max(self._order)

    def share(self, cluster: int) -> None:
        """Count one reference more to a cluster that is in use.

        Like a new cluster, it is on disk before the reference is.  Raises FormatError for a
        cluster that is counted as free, TargetError where the refcounts are too narrow.
        """
        self.check_used(cluster)
        self._refuse_protected(cluster)
        if not self.can_share(cluster):
            raise TargetError(
                f"'{self._file.name}': a refcount of {1 << self._order} bits cannot count one more "
                f"reference to cluster {cluster}"
            )
        index, place = divmod(cluster, self._per_block)
        block = self._block(index)
        assert block is not None  # noqa: S101 - it counts the cluster; this is for mypy
        block[place] += 1
        self._dirty.add(index)

    def release(self, first: int, count: int = 1) -> None:
        """Count one reference less, for each of the clusters; it takes effect with ``settle``."""
        if not count:
            return
        if self._released and sum(self._released[-1]) == first:
            start, length = self._released[-1]
            self._released[-1] = (start, length + count)
        else:
            self._released.append((first, count))

    def settle(self) -> list[int]:
        """Lower the counts of all that was released; gives the clusters that are free now.

        The caller knows that no reference to them is left on disk.
        """
        released, self._released = self._released, []
        return [
            cluster
            for first, count in released
            for cluster in range(first, first + count)
            if self.get(cluster) and not self._decrease(cluster)
        ]

    # ------------------------------------------------------------------------- writing

    def write_blocks(self) -> None:
        """Write the dirty blocks.  A block whose table entry is new is nobody's before that."""
        for index in sorted(self._dirty):
            data = pack_refcounts(self._blocks[index], self._order)
            self._file.pwrite(data, self._table[index] & REFCOUNT_TABLE_OFFSET_MASK)
        self._dirty.clear()
        self._evict()

    @property
    def table_dirty(self) -> bool:
        """True when entries of the table, or a whole new table, are to be written."""
        return bool(self._dirty_entries) or self.table_moved

    def write_table(self) -> None:
        """Write the new entries of the table, or all of a table that has moved.

        The blocks that it names must be on disk.  After a move the header is to be written next,
        with a barrier before and after; then ``table_switched``.
        """
        if self.table_moved:
            self._file.pwrite(pack_table(self._table), self.table_offset)
        else:
            for index in sorted(self._dirty_entries):
                entry = self._table[index].to_bytes(ENTRY_SIZE, "big")
                self._file.pwrite(entry, self.table_offset + index * ENTRY_SIZE)
        self._dirty_entries.clear()

    def table_switched(self) -> None:
        """The header on disk names the new table."""
        self.table_moved = False

    # ------------------------------------------------------------------------- inside

    def _block(self, index: int) -> MutableSequence[int] | None:
        block = self._blocks.get(index)
        if block is not None:
            self._blocks.move_to_end(index)
            return block
        table = self._table
        offset = table[index] & REFCOUNT_TABLE_OFFSET_MASK if index < len(table) else 0
        if not offset:
            return None
        counts = unpack_refcounts(self._file.pread(self._cluster_size, offset), self._order)
        block = counts if isinstance(counts, array) else bytearray(counts)
        self._blocks[index] = block
        self._evict()
        return block

    def _evict(self) -> None:
        most = max(4, _KEPT_BYTES // self._cluster_size)
        if len(self._blocks) > most + len(self._dirty):
            for index in [index for index in self._blocks if index not in self._dirty][:-most]:
                del self._blocks[index]

    def _find(self, count: int) -> int:
        """The first place from the moving index on where so many clusters are free."""
        per_block = self._per_block
        position = start = self._next
        while position - start < count:
            index, place = divmod(position, per_block)
            block = self._block(index)
            if block is None:
                position = (index + 1) * per_block
            elif position == start:
                place = _first_zero(block, place)
                position = start = index * per_block + place
                if place < per_block:
                    position += 1
            elif block[place]:
                position = start = position + 1
            else:
                position += 1
        return start

    def _overhead(self, first: int, count: int) -> tuple[list[int], int]:
        """What must be there to count a range: missing blocks, clusters of a larger table."""
        table = self._table
        last = (first + count - 1) // self._per_block
        missing = [
            index
            for index in range(first // self._per_block, last + 1)
            if index >= len(table) or not table[index] & REFCOUNT_TABLE_OFFSET_MASK
        ]
        if last < len(table):
            return missing, 0
        most = REFCOUNT_TABLE_BYTES_MAX // ENTRY_SIZE
        if last >= most:
            raise TargetError(
                f"'{self._file.name}' cannot grow: its refcount table has reached the limit of "
                f"{REFCOUNT_TABLE_BYTES_MAX} bytes; convert it to larger clusters"
            )
        entries = min(last + 1 + (last + 1) // 2, most)
        return missing, div_up(entries * ENTRY_SIZE, self._cluster_size)

    def _refuse_protected(self, cluster: int) -> None:
        if cluster in self._protected:
            raise _wrong_count("metadata is counted as free", cluster)

    def _add_blocks(self, indexes: list[int], first: int) -> None:
        """Make new blocks in the clusters from ``first`` on."""
        size = self._cluster_size
        if indexes:
            # They are written at once, so that a full disk is told now and not at a flush.
            self._file.pwrite(bytes(size * len(indexes)), first * size)
        if indexes and indexes[-1] >= len(self._table):
            self._table.extend([0] * (indexes[-1] + 1 - len(self._table)))
        for number, index in enumerate(indexes):
            zeros = unpack_refcounts(bytes(size), self._order)
            self._blocks[index] = zeros if isinstance(zeros, array) else bytearray(zeros)
            self._table[index] = (first + number) * size
            self._dirty_entries.add(index)
            self._protected.add(first + number)

    def _move_table(self, first: int, count: int) -> None:
        """Let the table, grown to ``count`` clusters, lie in the clusters from ``first`` on."""
        size = self._cluster_size
        old = (self.table_offset // size, self.table_clusters)
        self._table.extend([0] * (count * size // ENTRY_SIZE - len(self._table)))
        self.table_offset, self.table_clusters = first * size, count
        self.table_moved = True
        self._protected.add_range(first, count)
        self._protected.remove_range(*old)
        self.release(*old)

    def _set_ones(self, first: int, count: int) -> None:
        for cluster in range(first, first + count):
            index, place = divmod(cluster, self._per_block)
            block = self._block(index)
            assert block is not None  # noqa: S101 - made before; this is for mypy
            block[place] = 1
            self._dirty.add(index)

    def _decrease(self, cluster: int) -> int:
        """One less; gives what is left."""
        index, place = divmod(cluster, self._per_block)
        block = self._block(index)
        assert block is not None and block[place]  # noqa: S101, PT018 - callers have looked
        block[place] -= 1
        self._dirty.add(index)
        if not block[place]:
            self._next = min(self._next, cluster)
            if cluster == self.filling:
                self.filling = None
        return block[place]


def _first_zero(block: MutableSequence[int], start: int) -> int:
    """The first place from ``start`` on that counts 0; the length of the block if none does."""
    if isinstance(block, bytearray):
        place = block.find(0, start)
        return len(block) if place < 0 else place
    try:
        return block.index(0, start)
    except ValueError:
        return len(block)


def _wrong_count(problem: str, cluster: int) -> FormatError:
    return FormatError(
        f"{problem}; repair the image with check",
        field=f"refcount of cluster {cluster}",
        offset=None,
        found="0",
        allowed="1 or more",
    )
