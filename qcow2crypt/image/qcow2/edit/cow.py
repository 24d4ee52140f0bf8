"""Where guest bytes go: over old data that is ours alone, else into new clusters.

A cluster may be written in place only where its L2 entry and its L1 entry have the COPIED bit.
All others are copied on write: a new host cluster gets the old view of the whole cluster (zeros,
backing data, decompressed data, a cluster that a snapshot shares) with the new bytes in it, and
is on its way to the disk before its L2 entry changes, in memory even.  So a new cluster never
shows what lay in the file before, not beyond the end of the disk either.

Knows clusters, keys and the metadata; what the old view is, the image tells.
Source: the qcow2 document, "Cluster mapping"; what a write does to each kind, as QEMU does it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from qcow2crypt.errors import MappingError
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.entries import FLAG_COMPRESSED, FLAG_COPIED, FLAG_ZERO, OFFSET_MASK
from qcow2crypt.units import SectorNumber

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher

OldView = Callable[[memoryview, int], None]
"""Fill a buffer with the guest bytes at an offset, as they are now; zeros past the disk's end."""

_FRESH_BYTES = 2 << 20
"""So much new data is put together in memory at once; one cluster at least."""
_SCRATCH_BYTES = 1 << 20
_SECTOR_BITS = 9


class ClusterWriter:
    """Writes guest bytes to an image with standard L2 entries.  Not thread-safe."""

    def __init__(self, metadata: Metadata, cipher: SectorCipher | None, old_view: OldView) -> None:
        header = metadata.header
        self._meta = metadata
        self._cipher = cipher
        self._old_view = old_view
        self._file = metadata.file if metadata.data_file is None else metadata.data_file
        self._external = metadata.data_file is not None
        self._size = header.cluster_size
        self._bits = header.cluster_bits
        self._coverage_bits = header.l2_coverage.bit_length() - 1
        self._index_mask = header.l2_entries - 1
        self._version = header.version
        self._scratch = memoryview(bytearray(self._size))

    def write(self, data: memoryview, position: int) -> None:
        """Write ``data`` at the guest offset ``position``: whole sectors if there is a cipher.

        Raises TargetError, SourceError, FormatError; the image is consistent then, and each
        sector of the range holds old or new data.
        """
        done = 0
        while done < data.nbytes:
            done += self._write_some(data[done:], position + done)
            if self._meta.heavy:
                self._meta.commit()

    def _write_some(self, data: memoryview, position: int) -> int:
        """Write what can go out in one piece; gives how much that was."""
        meta = self._meta
        l1_index = position >> self._coverage_bits
        index = (position >> self._bits) & self._index_mask
        table = meta.table(l1_index)
        if table is None or not meta.l1[l1_index] & FLAG_COPIED:
            table = meta.edit_table(l1_index)
        end = min(position + data.nbytes, (l1_index + 1) << self._coverage_bits)
        length = self._length_in_place(table, index, position, end)
        if length:
            host = (table[index] & OFFSET_MASK) + (position & (self._size - 1))
            self._put(data[:length], host, position)
            return length
        return self._write_fresh(l1_index, index, data[: end - position], position)

    # ------------------------------------------------------------------------- in place

    def _is_ours(self, entry: int, position: int) -> bool:
        """True where a standard entry leads to data that may be written over."""
        if entry & FLAG_COMPRESSED:
            return False
        if entry & FLAG_ZERO:
            self._check_zero_flag(entry, position)
            return False
        if entry & FLAG_COPIED or (self._external and entry & OFFSET_MASK):
            self._meta.check_place(entry & OFFSET_MASK, position, entry)
            return True
        return False

    def _length_in_place(self, table: array[int], index: int, position: int, end: int) -> int:
        """How many bytes from ``position`` on lie in a row in clusters that are ours."""
        if not self._is_ours(table[index], position):
            return 0
        host = table[index] & OFFSET_MASK
        stop = (position & -self._size) + self._size
        while stop < end:
            index += 1
            host += self._size
            if table[index] & OFFSET_MASK != host or not self._is_ours(table[index], stop):
                break
            stop += self._size
        return min(stop, end) - position

    def _put(self, data: memoryview, host: int, position: int) -> None:
        """Write data where it is to be, encrypted if the image is."""
        cipher = self._cipher
        if cipher is None:
            self._file.pwrite(data, host)
            return
        for at in range(0, data.nbytes, _SCRATCH_BYTES):
            part = data[at : at + _SCRATCH_BYTES]
            if part.nbytes > self._scratch.nbytes:
                self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
            scratch = self._scratch[: part.nbytes]
            cipher.encrypt_into(part, scratch, SectorNumber(position + at >> _SECTOR_BITS))
            self._file.pwrite(scratch, host + at)

    # ------------------------------------------------------------------------- copy on write

    def _write_fresh(self, l1_index: int, index: int, data: memoryview, position: int) -> int:
        """Write into clusters that get data only now; gives how many bytes were written."""
        meta, size = self._meta, self._size
        table = meta.edit_table(l1_index)
        start = position & -size
        host = self._kept_host(table[index], position)
        if host is not None:
            count, held = 1, []
        else:
            most = self._fresh_count(table, index, start, position + data.nbytes)
            held = [meta.clusters_of(table[index + i], start + i * size) for i in range(most)]
            first, count = self._allocate(most, start)
            host = first << self._bits
        end = min(position + data.nbytes, start + count * size)
        try:
            body = memoryview(bytearray(count * size))
            if start < position:
                self._old_view(body[: position - start], start)
            if end < start + count * size:
                self._old_view(body[end - start :], end)
            body[position - start : end - start] = data[: end - position]
            self._put_whole(body, host, start)
        except BaseException:
            if held and not self._external:
                meta.refcounts.give_back(host >> self._bits, count)
            raise
        first_entry = host | FLAG_COPIED
        table[index : index + count] = array(
            "Q", range(first_entry, first_entry + count * size, size)
        )
        for old in held[:count]:
            meta.refcounts.release(*old)
        return end - position

    def _kept_host(self, entry: int, position: int) -> int | None:
        """The host offset of a cluster that is ours and reads as zeros: it can be filled."""
        if entry & FLAG_COMPRESSED or not entry & FLAG_ZERO:
            return None
        host = entry & OFFSET_MASK
        if not (entry & FLAG_COPIED and host) and not (self._external and host):
            return None
        self._meta.check_place(host, position, entry)
        return host

    def _fresh_count(self, table: array[int], index: int, start: int, end: int) -> int:
        """How many clusters in a row need a new place."""
        wanted = min(-(-(end - start) // self._size), max(1, _FRESH_BYTES // self._size))
        count = 1
        while count < wanted:
            entry = table[index + count]
            position = start + count * self._size
            if self._is_ours(entry, position) or self._kept_host(entry, position) is not None:
                break
            count += 1
        return count

    def _allocate(self, most: int, start: int) -> tuple[int, int]:
        """New host clusters in a row: the first, and how many."""
        if self._external:
            return start >> self._bits, most
        return self._meta.refcounts.allocate_run(most)

    def _put_whole(self, body: memoryview, host: int, position: int) -> None:
        """Write plain data that may be overwritten here; whole sectors."""
        if self._cipher is not None:
            self._cipher.encrypt_into(body, body, SectorNumber(position >> _SECTOR_BITS))
        self._file.pwrite(body, host)

    def _check_zero_flag(self, entry: int, position: int) -> None:
        if self._version < 3:
            raise MappingError(
                "zero flag in a version 2 image",
                field="L2 entry",
                offset=None,
                found=f"{entry:#018x}",
                allowed="bit 0 clear",
                guest_offset=position & -self._size,
            )
