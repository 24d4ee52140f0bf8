"""Write a fresh qcow2 file in guest order, laid out cluster for cluster as qemu-img does.

Joins allocator, layouts and cipher.  It serves create and convert: every guest range comes
once, in ascending order.  Data goes out as it comes; of the tables only the L1 table and one
L2 table are kept; header and refcounts are written last, so a cut file has no magic.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.placed import Placed, Run, write_parts
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, pack_compressed
from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.header import Places as HeaderPlaces
from qcow2crypt.image.qcow2.fresh.header import fresh_header
from qcow2crypt.image.qcow2.fresh.l2 import FreshL2, big_endian
from qcow2crypt.image.qcow2.fresh.places import Places
from qcow2crypt.image.qcow2.fresh.preallocation import Plan
from qcow2crypt.image.qcow2.fresh.refcounts import RefcountBlocks, refcount_table
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.units import (
    SECTOR_SIZE,
    GuestOffset,
    ReadBuffer,
    align_up,
    div_up,
    guest_sector,
)

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher
    from qcow2crypt.image.qcow2.bitmaps import StoredBitmap

_ENCRYPTED_CLUSTERS_AT_ONCE = 32
"""QEMU cuts encrypted requests into so many clusters and allocates for each part alone."""
_FILL_BYTES = 1 << 20


class Target(Protocol):
    """Where the bytes go."""

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def pwritev(self, parts: Sequence[ReadBuffer], offset: int) -> None:
        """Write all parts one behind the other, from ``offset`` on."""

    def truncate(self, size: int) -> None:
        """Set the length of the file."""

    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        """Have the file system set a range aside; ``full``: write zeros to it."""


class Backing(Protocol):
    """The guest disk of a backing file."""

    def pread(self, length: int, offset: int) -> bytes:
        """Bytes at ``offset``, fewer at the end of the disk."""


class Qcow2Writer:
    """A new qcow2 image of ``size`` guest bytes (rounded up to a sector) in ``target``.

    ``cipher`` must be given exactly when the options ask for encryption, ``data_target`` exactly
    when they name a data file.  Guest ranges that are never written read as zeros, or from the
    backing file if the options name one; then ``backing`` is needed to write parts of clusters.
    ``bitmaps`` are those of a disk of the same size, to be copied; version 3 only.
    Raises ArgumentError when the disk is too large for the cluster size, and what the targets
    raise.
    """

    at_guest_offsets = False

    def __init__(
        self,
        target: Target,
        size: int,
        options: Qcow2Options,
        cipher: SectorCipher | None = None,
        *,
        data_target: Target | None = None,
        backing: Backing | None = None,
        bitmaps: Sequence[StoredBitmap] = (),
    ) -> None:
        if (cipher is not None) != (options.encryption is not None):
            raise ArgumentError("a cipher is needed exactly when the options ask for encryption")
        if (data_target is not None) != (options.data_file is not None):
            raise ArgumentError("a data target is needed exactly when the options name a data file")
        if bitmaps and options.version < 3:
            raise ArgumentError("an image of version 2 cannot have bitmaps")
        self._target = target
        self._data = data_target
        self._options = options
        self._cipher = cipher
        self._backing = backing
        self._bitmaps = bitmaps
        self._directory = ext.BitmapsPointer(0, 0, 0) if bitmaps else None
        cluster_size = options.cluster_size
        self._cluster_size = cluster_size
        self.size = align_up(size, SECTOR_SIZE)
        self._l2 = FreshL2(cluster_size, extended=options.extended_l2)
        self._l1 = array("Q", bytes(self._l1_entries(self.size) * ENTRY_SIZE))
        self._allocator = Allocator(cluster_size, options.refcount_order)
        self._refcounts = RefcountBlocks(self._allocator, options.refcount_order)
        # Names that do not fit shall be told before anything is written.
        fresh_header(options, self.size, self._header_places(0))
        self._l1_clusters = div_up(len(self._l1) * ENTRY_SIZE, cluster_size)
        self._l1_first = self._allocator.allocate(self._l1_clusters) if self._l1_clusters else 0
        self._scratch = bytearray()
        self._end = 0
        self._data_end = self.size
        self._position = 0
        self._compressed = False
        self._plan: Plan | None = None
        if options.preallocates:
            self._preallocate()
        self._map = Places(
            self._allocator,
            self._l1,
            self._l2,
            cluster_size,
            external=data_target is not None,
            plan=self._plan,
            # A plain cluster that nobody writes holds zeros already.  An encrypted one is marked
            # as zeros; QEMU does not, and its guest reads noise: raw zeros, decrypted.
            plan_stored=cipher is None or options.version == 2,
        )
        # Version 2 cannot mark clusters as zeros: what nobody writes is filled.
        self._fills = bool(self._plan and cipher is not None and options.version == 2)
        # Opening the new file again, as qemu-img does, restarts the search.
        self._allocator.restart()

    def grow(self, size: int) -> None:
        """The disk has at least ``size`` bytes: for a source whose end nobody knows before.

        The file is as if that had been known, while the L1 table takes no more clusters; a longer
        one is written behind the data.  Not with preallocation.  Raises ArgumentError.
        """
        size = align_up(size, SECTOR_SIZE)
        if size <= self.size:
            return
        if self._plan is not None:
            raise ArgumentError("a disk that is preallocated must have its size from the beginning")
        self._l1.frombytes(bytes((self._l1_entries(size) - len(self._l1)) * ENTRY_SIZE))
        self._data_end = max(self._data_end, size)
        self.size = size

    def _l1_entries(self, size: int) -> int:
        """How many entries the L1 table has for a disk of ``size`` bytes."""
        coverage = self._cluster_size * self._l2.entries
        if div_up(size, coverage) * ENTRY_SIZE > hdr.L1_BYTES_MAX:
            largest = hdr.L1_BYTES_MAX // ENTRY_SIZE * coverage
            raise ArgumentError(
                f"a disk of {size} bytes is too large for clusters of {self._cluster_size} bytes: "
                f"the limit is {largest}; use larger clusters"
            )
        return div_up(size, coverage)

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes: whole sectors, behind all that was written before.

        ``data`` is one request in QEMU's sense: a run of data that lies in one piece.
        """
        view = memoryview(data).cast("B")
        self._advance(offset, view.nbytes)
        self._store(offset, view)

    def place(self, runs: Sequence[Run]) -> Placed:
        """Give guest ranges their places, each as one ``write``; ``put`` brings the bytes.

        Where a range ends inside a unit, the rest of the unit is written here.
        """
        placed = Placed([], [], [])
        for offset, at, length in runs:
            self._advance(offset, length)
            self._place(placed, offset, at, length)
        self._take_tables(placed)
        return placed

    def put(self, placed: Placed, buffer: memoryview) -> None:
        """Store what ``place`` gave a place, from ``buffer``, which is encrypted as it lies.

        Threads may do this side by side, in any order, before ``finish``.
        """
        if self._cipher is not None:
            for offset, at, length in placed.runs:
                part = buffer[at : at + length]
                self._cipher.encrypt_into(part, part, guest_sector(offset))
        parts: list[tuple[int, ReadBuffer]] = [
            (host, buffer[at : at + length]) for host, at, length in placed.parts
        ]
        if self._data is None:
            write_parts(self._target, [*parts, *placed.tables])
        else:
            write_parts(self._data, parts)
            write_parts(self._target, placed.tables)

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Let a range read as zeros: whole sectors, behind all that was written before.

        Only a new image with a backing file needs to be told.  Without one nothing is stored.
        """
        self._advance(offset, length)
        if self._options.backing_file is None:
            return
        unit = self._l2.unit
        position, end = int(offset), offset + length
        while position < end:
            stop = min(align_up(position + 1, unit), end)
            whole = position % unit == 0 and (stop % unit == 0 or stop == self.size)
            if whole and self._options.version == 3:
                self._l2.store_zeros(
                    self._map.index(position), position % self._cluster_size, stop - position
                )
            else:
                self._store(position, memoryview(bytes(stop - position)))
            position = stop

    def write_compressed(self, offset: GuestOffset, stored: bytes) -> None:
        """Store one guest cluster of which ``stored`` is the compressed form.

        It is shorter than a cluster.  Not with encryption, preallocation or a data file.
        """
        self._advance(offset, min(self._cluster_size, self.size - offset))
        index = self._map.index(offset)
        host = self._allocator.allocate_bytes(len(stored))
        run = CompressedRun(host, len(stored))
        self._l2.put(index, pack_compressed(run, self._options.cluster_bits))
        self._write(stored, host)
        self._compressed = True

    def finish(self) -> None:
        """Write what is left: tables, refcounts, and last the header."""
        if self._fills:
            self._fill(align_up(self.size, self._cluster_size))
        self._map.finish()
        for host, packed in self._map.take_tables():
            self._write(packed, host)
        target, size = self._target, self._cluster_size
        allocator = self._allocator
        self._place_l1()
        if self._compressed:
            self._end = align_up(self._end, SECTOR_SIZE)
        if self._bitmaps:
            from qcow2crypt.image.qcow2.bitmaps import store_bitmaps

            self._directory = store_bitmaps(self._bitmaps, size, allocator.allocate, self._write)
        for place, blocks in allocator.retired:
            # QEMU leaves the bytes of a former refcount table where nothing has used them since.
            old = refcount_table(blocks, size, place.clusters)
            for first, end in allocator.free_ranges(place.first, place.end):
                at = (first - place.first) * size
                target.pwrite(old[at : at + (end - first) * size], first * size)
        for offset, block in self._refcounts.rest():
            self._write(block, offset)
        table = allocator.table
        self._write(refcount_table(allocator.blocks, size, table.clusters), table.first * size)
        self._write(big_endian(self._l1), self._l1_first * size)
        self._write(fresh_header(self._options, self.size, self._header_places(self._l1_first)), 0)
        target.truncate(self._end)
        if self._data is not None:
            self._data.truncate(self._data_end)

    # Places.

    def _place_l1(self) -> None:
        """Another place for the L1 table if it has grown out of that which it had."""
        clusters = div_up(len(self._l1) * ENTRY_SIZE, self._cluster_size)
        if clusters > self._l1_clusters:
            moved = self._allocator.allocate(clusters)
            if self._l1_clusters:
                self._allocator.free(self._l1_first, self._l1_clusters)
            self._l1_first = moved

    def _preallocate(self) -> None:
        options, size = self._options, self._cluster_size
        clusters = div_up(self.size, size)
        plan = self._plan = Plan(self._l1, self._l2.entries, clusters, size)
        full = options.preallocation == "full"
        reserve = full or options.preallocation == "falloc"
        if self._data is not None:
            plan.with_data_file(self._allocator)
            self._data_end = align_up(self.size, self._l2.unit)
            if reserve:
                self._data.preallocate(0, self.size, full=full)
        elif reserve:
            start = plan.with_area(self._allocator)
            self._end = start + clusters * size
            self._target.preallocate(start, clusters * size, full=full)
        elif clusters:
            plan.with_metadata(self._allocator)
            last = (clusters - 1) * size
            self._end = plan.last_host + align_up(self.size - last, self._l2.unit)

    def _header_places(self, l1_first: int) -> HeaderPlaces:
        table, size = self._allocator.table, self._cluster_size
        return HeaderPlaces(
            len(self._l1), l1_first * size, table.first * size, table.clusters, self._directory
        )

    # Bytes.

    def _advance(self, offset: int, length: int) -> None:
        """Check the next range, and fill what was left out before it if that is needed."""
        end = offset + length
        if offset % SECTOR_SIZE or length % SECTOR_SIZE or offset < self._position:
            raise ArgumentError("guest data must be whole sectors in ascending order")
        if end > self.size:
            raise ArgumentError(f"guest offset {end:#x} is beyond the disk of {self.size} bytes")
        if self._fills:
            self._fill(offset)
        self._position = end

    def _fill(self, end: int) -> None:
        """Store zeros from where the last data ended."""
        while self._position < end:
            length = min(_FILL_BYTES, end - self._position)
            self._store(self._position, memoryview(bytes(length)))
            self._position += length

    def _store(self, offset: int, view: memoryview) -> None:
        """Encrypt a copy of guest bytes and write it."""
        if self._cipher is not None:
            if len(self._scratch) != view.nbytes:
                self._scratch = bytearray(view.nbytes)
            self._scratch[:] = view
            view = memoryview(self._scratch)
        placed = Placed([], [], [*self._map.take_tables()])
        self._place(placed, offset, 0, view.nbytes)
        self._take_tables(placed)
        self.put(placed, view)

    def _take_tables(self, placed: Placed) -> None:
        """Add the metadata that is as it shall be."""
        placed.tables.extend(self._map.take_tables())
        placed.tables.extend(self._refcounts.take_full())
        if placed.tables:
            last = max(host for host, _ in placed.tables)
            self._end = max(self._end, last + self._cluster_size)

    def _place(self, placed: Placed, offset: int, at: int, length: int) -> None:
        """Add the places of a guest range, whose bytes lie from ``at`` on in a buffer."""
        placed.add_run(offset, at, length)
        position, end = offset, offset + length
        most = _ENCRYPTED_CLUSTERS_AT_ONCE * self._cluster_size
        if self._cipher is None:
            most = max(most, length)
        while position < end:
            host = part = 0
            for host, part in self._map.locate_tables(position, end - position, most):
                placed.add_part(host, at + position - offset, part)
                position += part
            self._note_end(host + part)  # they ascend
            length = min(end - position, most - position % self._cluster_size)
            if length:
                host, length, fresh = self._map.locate(position, length)
                placed.add_part(host, at + position - offset, length)
                self._note_end(host + length)
                self._fill_units(position, position + length, host, fresh)
                position += length

    def _fill_units(self, position: int, end: int, host: int, fresh: tuple[bool, bool]) -> None:
        """Fill what is left of new units with what the guest saw there."""
        head, tail = position % self._l2.unit, -end % self._l2.unit
        if head and fresh[0]:
            self._write_data(self._seen_before(position - head, head), host - head)
        if tail and fresh[1]:
            self._write_data(self._seen_before(end, tail), host + end - position)

    def _note_end(self, end: int) -> None:
        if self._data is None:
            self._end = max(self._end, end)
        else:
            self._data_end = max(self._data_end, end)

    def _seen_before(self, position: int, length: int) -> ReadBuffer:
        seen: ReadBuffer = bytes(length)
        if self._options.backing_file is not None:
            if self._backing is None:
                raise ArgumentError("to write a part of a cluster the backing file must be open")
            seen = self._backing.pread(length, position).ljust(length, b"\0")
        if self._cipher is None:
            return seen
        return self._cipher.encrypt(seen, guest_sector(GuestOffset(position)))

    def _write_data(self, data: ReadBuffer, offset: int) -> None:
        (self._target if self._data is None else self._data).pwrite(data, offset)
        self._note_end(offset + memoryview(data).nbytes)

    def _write(self, data: ReadBuffer, offset: int) -> None:
        self._target.pwrite(data, offset)
        self._end = max(self._end, offset + memoryview(data).nbytes)
