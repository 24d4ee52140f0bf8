"""Change metadata in bulk: write new tables beside the old ones, then switch with one write.

A snapshot, a repair or a shrink changes refcounts all over the file.  None of them is changed in
place here.  New tables and a whole new refcount table go to clusters that neither the old nor
the new state uses; after a barrier one write of the header (at most 112 bytes, inside its first
sector) makes the new state the true one.  A crash before it leaves the old state with clusters
that nobody counts, a crash after it leaves the new state.  Both are exact.

Knows clusters, counts and the header; never keys or guest bytes.  Source: the qcow2 document,
"Refcounts".
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Sequence

from qcow2crypt.errors import TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.counts import CHUNK, ClusterCounts
from qcow2crypt.image.qcow2.header import REFCOUNT_TABLE_BYTES_MAX, V3_LENGTH, Header, pack_header
from qcow2crypt.image.qcow2.refcountblock import (
    REFCOUNT_TABLE_OFFSET_MASK,
    pack_refcounts,
    refcount_max,
    refcounts_per_block,
    small_refcounts,
)
from qcow2crypt.image.qcow2.tables import pack_table
from qcow2crypt.units import div_up

_TABLE_ENTRY_BYTES = 8
_USED = bytes((0, *[1] * 255))
_FREE = bytes((1, *[0] * 255))
_RUN = re.compile(b"\1+")


class Switch:
    """One bulk change.

    ``busy``    what the old state uses: its refcounts, its census, or both.  Only read.
    ``wanted``  the refcounts of the new state, which the caller may go on changing until
                ``commit``.  It has everything that shall stay (the header's cluster, too) and
                nothing of the old refcount table and blocks; the new ones are added here.

    ``outside`` clusters behind the end of the file that tables name all the same.  Nothing new goes
                there, and where the file grows over them, they count.

    The caller allocates and writes its new tables, and then calls ``commit`` once.
    """

    def __init__(
        self,
        file: HostFile,
        header: Header,
        busy: Sequence[ClusterCounts],
        wanted: ClusterCounts,
        outside: ClusterCounts | None = None,
    ) -> None:
        self.file = file
        self.header = header
        self.wanted = wanted
        self._outside = outside or ClusterCounts()
        self._maps = (*busy, wanted, self._outside)
        self._next = 1
        self._covered = div_up(file.size, header.cluster_size)
        self._blocks: dict[int, int] = {}

    @classmethod
    def of(cls, file: HostFile, header: Header) -> Switch:
        """A change of a sound file: ``wanted`` is what its refcounts say, without the clusters
        that hold the refcounts themselves.
        """
        old = read_refcounts(file, header)
        wanted = old.copy()
        table = header.refcount_table_offset >> header.cluster_bits
        wanted.clear_run(table, header.refcount_table_clusters)
        for offset in read_refcount_table(file, header):
            if offset:
                wanted.clear_run(offset >> header.cluster_bits, 1)
        return cls(file, header, (old,), wanted)

    def allocate(self, count: int = 1) -> int:
        """The first of ``count`` clusters in a row that are free before and after the switch.

        They are counted once in ``wanted``.  They may lie behind the end of the file.
        """
        first = self._find(count)
        self.wanted.add_run(first, count)
        return first

    def write_table(self, entries: array[int], offset: int) -> None:
        """Write 64-bit entries at a host offset, with zeros up to the cluster's end."""
        size = self.header.cluster_size
        data = pack_table(entries)
        self.file.pwrite(data.ljust(div_up(len(data), size) * size, b"\0"), offset)

    def commit(self, **fields: int) -> Header:
        """Write the new refcounts, a barrier, the header with ``fields`` changed, a barrier.

        Gives the header that now stands in the file.  Raises TargetError, before the header is
        touched, when a count does not fit the refcount width or the refcount table would be too
        large.  What the old state alone used is free from now on.
        """
        header = self.header
        table = self._place_refcounts()
        self.refuse_overflow()
        per_block = refcounts_per_block(header.cluster_size, header.refcount_order)
        for index, cluster in self._blocks.items():
            counts = self.wanted.slice(index * per_block, per_block)
            data = pack_refcounts(counts, header.refcount_order)
            self.file.pwrite(data, cluster << header.cluster_bits)
        first, count = table
        entries = array("Q", bytes(count * header.cluster_size))
        for index, cluster in self._blocks.items():
            entries[index] = cluster << header.cluster_bits
        self.write_table(entries, first << header.cluster_bits)
        self.file.flush()
        new = header._replace(
            refcount_table_offset=first << header.cluster_bits,
            refcount_table_clusters=count,
            **fields,
        )
        write_header(self.file, new)
        self.header = new
        return new

    def freed(self) -> Iterator[tuple[int, int]]:
        """First and count of the clusters that the old state used and the new one does not."""
        old, new = self._maps[0], self.wanted
        for first in range(0, old.end, CHUNK):
            before, after = old.slice(first, CHUNK), new.slice(first, CHUNK)
            if before == after:
                continue
            marked = _marked(before, _USED) & _marked(after, _FREE)
            for run in _RUN.finditer(marked.to_bytes(CHUNK, "little")):
                yield first + run.start(), len(run.group())

    def refuse_overflow(self) -> None:
        """Raise TargetError when a count does not fit the refcount width.

        ``commit`` asks for this too; a caller that asks before has written nothing yet.
        """
        if self.wanted.over(refcount_max(self.header.refcount_order)):
            raise TargetError(
                f"'{self.file.name}': a cluster would be used more often than a refcount of "
                f"{self.header.refcount_bits} bits can say. Nothing was changed"
            )

    def _place_refcounts(self) -> tuple[int, int]:
        """Find a place for every block and the table; the table's first cluster and length."""
        header = self.header
        per_block = refcounts_per_block(header.cluster_size, header.refcount_order)
        per_cluster = header.cluster_size // _TABLE_ENTRY_BYTES
        first = count = 0
        while True:
            # A block or the table may fall into a range that had no count: it needs a block then.
            self._cover_outside()
            missing = [i for i in self.wanted.used_ranges(per_block) if i not in self._blocks]
            for index in missing:
                self._blocks[index] = self.allocate()
            needed = max(1, div_up(max(self._blocks, default=0) + 1, per_cluster))
            if needed > max(1, REFCOUNT_TABLE_BYTES_MAX // header.cluster_size):
                raise TargetError(
                    f"'{self.file.name}' is too large for a refcount table with clusters of "
                    f"{header.cluster_size} bytes. Nothing was changed"
                )
            if needed > count:
                self.wanted.clear_run(first, count)
                first, count = self.allocate(needed), needed
            elif not missing:
                return first, count

    def _cover_outside(self) -> None:
        """Count what was outside the file and will not be any more."""
        end = max(self._covered, self._next)
        for cluster in self._outside.used(self._covered, end):
            self.wanted.add(cluster, self._outside[cluster])
        self._covered = end

    def _find(self, count: int) -> int:
        """First fit from a moving index on: what was passed over stays free."""
        first = self._next
        while True:
            start = first
            for used in self._maps:
                first = used.first_free(first, count)
            if first == start:
                self._next = first + count
                return first


def _marked(counts: Sequence[int], marks: bytes) -> int:
    """One byte for each count, as a number: what ``marks`` has for it."""
    narrow = counts if isinstance(counts, bytes) else bytes(min(count, 255) for count in counts)
    return int.from_bytes(narrow.translate(marks), "little")


def read_refcounts(file: HostFile, header: Header) -> ClusterCounts:
    """The refcounts that stand in the file, of the clusters up to its end.

    Blocks that lie outside the file or across clusters count nothing.
    """
    counts = ClusterCounts()
    clusters = div_up(file.size, header.cluster_size)
    per_block = refcounts_per_block(header.cluster_size, header.refcount_order)
    for index, offset in enumerate(read_refcount_table(file, header)):
        if index * per_block >= clusters:
            break
        if offset and offset % header.cluster_size == 0 and offset < file.size:
            block = small_refcounts(file.pread(header.cluster_size, offset), header.refcount_order)
            first = index * per_block
            counts.load(first, block[: clusters - first])
    return counts


def read_refcount_table(file: HostFile, header: Header) -> array[int]:
    """The host offsets of the refcount blocks, 0 for none; cut at the end of the file."""
    length = header.refcount_table_clusters * header.cluster_size
    present = max(0, min(length, file.size - header.refcount_table_offset))
    entries = array("Q", file.pread(div_up(present, 8) * 8, header.refcount_table_offset))
    if sys.byteorder == "little":
        entries.byteswap()
    return array("Q", [entry & REFCOUNT_TABLE_OFFSET_MASK for entry in entries])


def write_header(file: HostFile, header: Header) -> None:
    """Put the fixed fields into the file with one write, and a barrier behind it.

    What follows them in the header cluster (more fields, extensions, names) is not touched.
    """
    file.pwrite(pack_header(header)[:V3_LENGTH], 0)
    file.flush()
