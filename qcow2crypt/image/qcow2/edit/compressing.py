"""Where compressed clusters go in an image that exists: byte after byte, sharing host clusters.

A host cluster that holds the bytes of several compressed clusters counts each of them.  The count
goes up before the L2 entry that needs it is on disk, and down after the last one is gone, as with
all clusters (``metadata``).  Bytes are only put where nothing refers to: behind those written last,
or into clusters that were free.  So a crash leaves every compressed cluster as it was, or new.

Knows bytes that are compressed already, tables and counts; no guest bytes, and no keys: images that
are encrypted have no business here, since compressed clusters lie in clear.
Source: the qcow2 document, "Compressed Clusters Descriptor".
"""

from __future__ import annotations

from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.entries import pack_compressed, parse_compressed
from qcow2crypt.units import SECTOR_SIZE, align_up


class CompressedClusterWriter:
    """Stores compressed clusters in an image without an external data file.  Not thread-safe."""

    def __init__(self, metadata: Metadata) -> None:
        header = metadata.header
        self.metadata = metadata
        self._size = header.cluster_size
        self._bits = header.cluster_bits
        self._entries = header.l2_entries
        self._step = 2 if header.extended_l2 else 1
        self._end = 0
        """Behind the last bytes; 0 where a cluster was full."""

    def write(self, stored: bytes, position: int) -> CompressedRun:
        """Let the guest cluster at ``position`` have this compressed form; gives its run.

        It is shorter than a cluster.  Raises MappingError, FormatError, TargetError; then the
        cluster is as it was.
        """
        meta = self.metadata
        l1_index, index = divmod(position >> self._bits, self._entries)
        table = meta.edit_table(l1_index)
        at = index * self._step
        held = meta.clusters_of(table[at], position)
        host, first, count = self._place(len(stored))
        end = host + len(stored)
        data = stored
        if end > meta.file.size:
            # No file ends inside a sector that belongs to a compressed cluster.
            data = stored.ljust(align_up(end, SECTOR_SIZE) - host, b"\0")
        try:
            meta.file.pwrite(data, host)
        except BaseException:
            meta.refcounts.give_back(first, count)
            self._end = 0
            raise
        self._end = end if end % self._size else 0
        meta.refcounts.filling = (end - 1) >> self._bits
        entry = pack_compressed(CompressedRun(host, len(stored)), self._bits)
        table[at] = entry
        if self._step > 1:
            table[at + 1] = 0  # compressed clusters have no subclusters
        meta.refcounts.release(*held)
        if meta.heavy:
            meta.commit()
        return parse_compressed(entry, self._bits)

    def _place(self, length: int) -> tuple[int, int, int]:
        """Count the clusters for so many bytes; gives the host offset, first cluster and number."""
        refcounts, size = self.metadata.refcounts, self._size
        start = self._end
        last = start >> self._bits
        if not start or refcounts.filling != last or not refcounts.can_share(last):
            first = refcounts.allocate(1)
            return first << self._bits, first, 1
        if -start % size >= length:
            refcounts.share(last)
            return start, last, 1
        first = refcounts.allocate(1)
        if first != last + 1:
            return first << self._bits, first, 1
        refcounts.share(last)
        return start, last, 2
