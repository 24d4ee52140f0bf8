"""Write a fresh qcow2 file in guest order, laid out cluster for cluster as qemu-img does.

Joins allocator, layouts and cipher.  It serves create and convert: every guest range comes
once, in ascending order.  Data goes out as it comes; of the tables only the L1 table and one
L2 table are kept; header and refcounts are written last, so a cut file has no magic.
"""

from __future__ import annotations

import sys
from array import array
from typing import Protocol

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.allocator import Allocator
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, FLAG_COPIED, OFFSET_MASK
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.units import (
    SECTOR_SIZE,
    GuestOffset,
    ReadBuffer,
    align_down,
    align_up,
    div_up,
    guest_sector,
)

_ENCRYPTED_CLUSTERS_AT_ONCE = 32
"""QEMU cuts encrypted requests into so many clusters and allocates for each part alone."""
_FEATURE_TABLE_ABOVE = 4096
"""Clusters larger than this have room for the feature name table."""
_ONE = b"\x00\x01"
_REFCOUNT_BYTES = 2

FEATURE_NAMES = (
    ext.FeatureName(0, 0, "dirty bit"),
    ext.FeatureName(0, 1, "corrupt bit"),
    ext.FeatureName(0, 2, "external data file"),
    ext.FeatureName(0, 3, "compression type"),
    ext.FeatureName(0, 4, "extended L2 entries"),
    ext.FeatureName(1, 0, "lazy refcounts"),
    ext.FeatureName(2, 0, "bitmaps"),
    ext.FeatureName(2, 1, "raw external data"),
)


class Target(Protocol):
    """Where the bytes go."""

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def truncate(self, size: int) -> None:
        """Set the length of the file."""


class Qcow2Writer:
    """A new qcow2 image of ``size`` guest bytes (rounded up to a sector) in ``target``.

    ``cipher`` must be given exactly when the options ask for encryption.  Guest ranges that are
    never written stay unallocated.  Raises ArgumentError when the disk is too large for the
    cluster size, and what ``target`` raises.
    """

    def __init__(
        self, target: Target, size: int, options: Qcow2Options, cipher: SectorCipher | None = None
    ) -> None:
        if (cipher is not None) != (options.encryption is not None):
            raise ArgumentError("a cipher is needed exactly when the options ask for encryption")
        self._target = target
        self._options = options
        self._cipher = cipher
        cluster_size = options.cluster_size
        self._cluster_size = cluster_size
        self.size = align_up(size, SECTOR_SIZE)
        self._l2_entries = cluster_size // ENTRY_SIZE
        l1_size = div_up(self.size, cluster_size * self._l2_entries)
        if l1_size * ENTRY_SIZE > hdr.L1_BYTES_MAX:
            largest = hdr.L1_BYTES_MAX // ENTRY_SIZE * cluster_size * self._l2_entries
            raise ArgumentError(
                f"a disk of {self.size} bytes is too large for clusters of {cluster_size} bytes: "
                f"the limit is {largest}; use larger clusters"
            )
        self._l1 = array("Q", bytes(l1_size * ENTRY_SIZE))
        self._allocator = Allocator(cluster_size)
        l1_clusters = div_up(l1_size * ENTRY_SIZE, cluster_size)
        self._l1_first = self._allocator.allocate(l1_clusters) if l1_clusters else 0
        # Opening the new file again, as qemu-img does, restarts the search.
        self._allocator.restart()
        self._l2 = array("Q", bytes(cluster_size))
        self._l2_index = -1
        self._scratch = bytearray()
        self._end = 0
        self._position = 0

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes: whole sectors, behind all that was written before.

        ``data`` is one request in QEMU's sense: a run of data that lies in one piece.
        """
        view = memoryview(data).cast("B")
        end = offset + view.nbytes
        if offset % SECTOR_SIZE or view.nbytes % SECTOR_SIZE or offset < self._position:
            raise ArgumentError("guest data must be whole sectors in ascending order")
        if end > self.size:
            raise ArgumentError(f"guest offset {end:#x} is beyond the disk of {self.size} bytes")
        self._position = end
        if self._cipher is not None:
            if len(self._scratch) != view.nbytes:
                self._scratch = bytearray(view.nbytes)
            self._cipher.encrypt_into(view, self._scratch, guest_sector(offset))
            view = memoryview(self._scratch)
        position: int = offset
        while position < end:
            length = end - position
            if self._cipher is not None:
                most = _ENCRYPTED_CLUSTERS_AT_ONCE * self._cluster_size
                length = min(length, most - position % self._cluster_size)
            host, length, fresh = self._allocate(position, length)
            self._put(position, view[position - offset :][:length], host, fresh)
            position += length

    def finish(self) -> None:
        """Write what is left: tables, refcounts, and last the header."""
        self._flush_l2()
        target, size = self._target, self._cluster_size
        allocator = self._allocator
        for place, entries in allocator.retired:
            # QEMU leaves the bytes of a former refcount table where nothing has used them since.
            old = self._table_of(entries).ljust(place.count * size, b"\0")
            for first, end in allocator.free_ranges(place.first, place.end):
                at = (first - place.first) * size
                target.pwrite(old[at : at + (end - first) * size], first * size)
        self._write_refcount_blocks()
        table = self._table_of(allocator.blocks).ljust(allocator.table.count * size, b"\0")
        self._write(table, allocator.table.first * size)
        self._write(_big_endian(self._l1), self._l1_first * size)
        self._write(self._header(), 0)
        target.truncate(self._end)

    # Places.

    def _allocate(self, position: int, length: int) -> tuple[int, int, tuple[bool, bool]]:
        """A host offset for ``position`` and how many bytes lie in one piece there.

        The flags tell whether the first and the last cluster are new.
        """
        size = self._cluster_size
        start: int | None = None
        done = 0
        first_fresh = last_fresh = False
        while done < length:
            at = position + done
            self._need_l2(at // (size * self._l2_entries))
            index = at // size % self._l2_entries
            entry = self._l2[index] & OFFSET_MASK
            if entry:
                # Only the cluster that the request before ended in can be here already.
                host, clusters = entry, 1
                if start is not None and host != start + align_down(done, size):
                    break
            else:
                wanted = div_up(at % size + length - done, size)
                wanted = min(wanted, self._l2_entries - index)
                if start is None:
                    host, clusters = self._allocator.allocate(wanted) * size, wanted
                else:
                    host = start + at - position
                    clusters = self._allocator.allocate_at(host // size, wanted)
                    if not clusters:
                        break
                self._set_l2(index, host, clusters)
            if start is None:
                start = host + at % size
                first_fresh = not entry
            last_fresh = not entry
            done += min(clusters * size - at % size, length - done)
        assert start is not None  # noqa: S101 - length is positive; this is for mypy
        return start, done, (first_fresh, last_fresh)

    def _set_l2(self, index: int, host: int, clusters: int) -> None:
        size = self._cluster_size
        first = host | FLAG_COPIED
        self._l2[index : index + clusters] = array("Q", range(first, first + clusters * size, size))

    def _need_l2(self, l1_index: int) -> None:
        if l1_index == self._l2_index:
            return
        self._flush_l2()
        self._l2_index = l1_index
        self._l1[l1_index] = self._allocator.allocate(1) * self._cluster_size | FLAG_COPIED

    def _flush_l2(self) -> None:
        if self._l2_index >= 0:
            self._write(_big_endian(self._l2), self._l1[self._l2_index] & OFFSET_MASK)
            self._l2 = array("Q", bytes(self._cluster_size))

    # Bytes.

    def _put(self, position: int, data: memoryview, host: int, fresh: tuple[bool, bool]) -> None:
        """Write data, and fill what is left of new clusters with (encrypted) zeros."""
        size = self._cluster_size
        end = position + data.nbytes
        self._write(data, host)
        head, tail = position % size, -end % size
        if head and fresh[0]:
            self._write(self._zeros(position - head, head), host - head)
        if tail and fresh[1]:
            self._write(self._zeros(end, tail), host + data.nbytes)

    def _zeros(self, position: int, length: int) -> ReadBuffer:
        zeros: ReadBuffer = bytes(length)
        if self._cipher is None:
            return zeros
        return self._cipher.encrypt(zeros, guest_sector(GuestOffset(position)))

    def _write(self, data: ReadBuffer, offset: int) -> None:
        view = memoryview(data)
        self._target.pwrite(view, offset)
        self._end = max(self._end, offset + view.nbytes)

    # Metadata.

    def _header(self) -> bytes:
        options, allocator = self._options, self._allocator
        zstd = options.compression_type == "zstd"
        fixed = hdr.Header(
            version=options.version,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=options.cluster_bits,
            size=self.size,
            crypt_method=hdr.CRYPT_AES if options.encryption else hdr.CRYPT_NONE,
            l1_size=len(self._l1),
            l1_table_offset=self._l1_first * self._cluster_size,
            refcount_table_offset=allocator.table.first * self._cluster_size,
            refcount_table_clusters=allocator.table.count,
            nb_snapshots=0,
            snapshots_offset=0,
            incompatible_features=hdr.INCOMPAT_COMPRESSION if zstd else 0,
            compatible_features=hdr.COMPAT_LAZY_REFCOUNTS if options.lazy_refcounts else 0,
            header_length=hdr.V3_LENGTH if options.version == 3 else hdr.V2_LENGTH,
            compression_type=hdr.COMPRESSION_ZSTD if zstd else hdr.COMPRESSION_DEFLATE,
        )
        packed = hdr.pack_header(fixed)
        if options.version == 3 and self._cluster_size > _FEATURE_TABLE_ABOVE:
            names = ext.pack_feature_table(FEATURE_NAMES)
            packed += ext.pack_extension(ext.EXT_FEATURE_TABLE, names)
        packed += ext.pack_extension(ext.EXT_END, b"")
        return packed.ljust(self._cluster_size, b"\0")

    def _write_refcount_blocks(self) -> None:
        """Every cluster before the frontier counts one, but for those in holes."""
        allocator, size = self._allocator, self._cluster_size
        per_block = allocator.refcounts_per_block
        full = _ONE * per_block
        for index, cluster in enumerate(allocator.blocks):
            if cluster is None:
                continue
            first = index * per_block
            free = allocator.free_ranges(first, first + per_block)
            content: ReadBuffer = full
            if free:
                counts = bytearray(full)
                for start, end in free:
                    at = (start - first) * _REFCOUNT_BYTES
                    counts[at : at + (end - start) * _REFCOUNT_BYTES] = bytes(
                        (end - start) * _REFCOUNT_BYTES
                    )
                content = counts
            self._write(content, cluster * size)

    def _table_of(self, blocks: list[int | None] | tuple[int | None, ...]) -> bytes:
        size = self._cluster_size
        return _big_endian(array("Q", [0 if b is None else b * size for b in blocks]))


def _big_endian(table: array[int]) -> bytes:
    if sys.byteorder == "little":
        table = array("Q", table)
        table.byteswap()
    return table.tobytes()
