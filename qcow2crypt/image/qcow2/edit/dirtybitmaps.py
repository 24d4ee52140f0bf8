"""Dirty bitmaps of an image that is written: which parts of the disk were written, kept up to date.

Before the first write the flag *in use* of each bitmap that records is set and put on the disk:
from then on no program believes it.  The bits are set in memory, in portions; when these get many
they are written to the bitmap's clusters.  ``store``, when the image is closed, writes the rest
and then clears the flags.  So a crash leaves bitmaps that say that they are not to be believed,
and an image that is closed has true ones.  QEMU does the same.

A bitmap that is disabled records nothing, and is touched when the disk gets another size only.
One that was in use already, or that is damaged, stays or becomes *in use*.

References follow counts, as in ``metadata``: a cluster is counted on the disk before a bitmap
table names it, and is counted down after.  Knows ranges and tables; no guest bytes, no keys.

Source: the qcow2 document, "Bitmaps".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.qcow2.bitmapdirectory import read_directory
from qcow2crypt.image.qcow2.bitmapentries import (
    ALL_ONES,
    FLAGS_OFFSET,
    IN_USE,
    BitmapEntry,
    is_table_entry,
)
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.units import div_up

_PORTION = 4096
_HELD_MAX = 1 << 20


class UnusableBitmapError(Exception):
    """A bitmap cannot be kept up to date, and stays in use.  It never leaves these modules."""


@dataclass(slots=True)
class KeptBitmap:
    """A bitmap that is kept up to date."""

    row: BitmapEntry
    table_offset: int
    entries: int
    size: int
    """Of the disk that it has bits for."""
    portions: dict[int, bytearray] = field(default_factory=dict)
    """Bits that changed: parts of ``portion`` bytes of the bitmap."""
    last: tuple[int, int] = (0, -1)
    """The bits that were set last: most writes set them again."""
    usable: bool = True
    """False once it is found damaged: it stays in use."""


class BitmapRecorder:
    """The bitmaps of one image open for writing.  Not thread-safe: the owner has a lock.

    ``pointer`` says where the directory is, and ``size`` is that of the disk.
    """

    def __init__(self, metadata: Metadata, pointer: BitmapsPointer, size: int) -> None:
        self._meta = metadata
        self._file = metadata.file
        self._pointer = pointer
        self._size = size
        self._cluster_size = metadata.header.cluster_size
        self._portion = min(_PORTION, self._cluster_size)
        self._kept: list[KeptBitmap] = []
        self._held = 0
        """Portions in memory."""
        self._marked = False

    # ------------------------------------------------------------------------- recording

    def note(self, start: int, end: int) -> None:
        """A guest range is about to change.  Raises SourceError, TargetError, FormatError."""
        if not self._marked:
            self.mark(disabled_too=False)
        for kept in self._kept:
            if kept.row.auto and kept.usable:
                shift = kept.row.granularity_bits
                bits = start >> shift, (end - 1) >> shift
                if bits != kept.last:
                    try:
                        self._set(kept, *bits)
                    except UnusableBitmapError:
                        self._give_up(kept)
                    kept.last = bits

    def _set(self, kept: KeptBitmap, first: int, last: int) -> None:
        per_portion = self._portion * 8
        for number in range(first // per_portion, last // per_portion + 1):
            portion = kept.portions.get(number)
            if portion is None:
                if self._held * self._portion >= _HELD_MAX:
                    self._write_out()
                portion = kept.portions[number] = self._load(kept, number)
                self._held += 1
            base = number * per_portion
            set_bits(portion, max(first - base, 0), min(last - base, per_portion - 1))

    def mark(self, *, disabled_too: bool) -> None:
        """Set *in use* where it is not, put that on the disk, and keep these bitmaps from now.

        Bitmaps that are disabled are concerned only where the disk gets another size: that must
        not come before they are marked.
        """
        known = {kept.row.at for kept in self._kept}
        with contextlib.suppress(HeaderError):  # what cannot be read nobody can believe
            for row in read_directory(self._file, self._pointer):
                if row.at in known or row.in_use or not (row.auto or disabled_too):
                    continue
                self._write_flags(row, in_use=True)
                kept = KeptBitmap(row, row.table_offset, row.table_entries, self._size)
                self._kept.append(kept)
                with self._giving_up(kept):
                    self._check_table(kept)
        self._file.flush()
        self._marked = True

    def _write_flags(self, row: BitmapEntry, *, in_use: bool) -> None:
        flags = row.flags | IN_USE if in_use else row.flags & ~IN_USE
        self._file.pwrite(flags.to_bytes(4, "big"), row.at + FLAGS_OFFSET)

    @contextlib.contextmanager
    def _giving_up(self, kept: KeptBitmap) -> Iterator[None]:
        try:
            yield
        except UnusableBitmapError:
            self._give_up(kept)

    def _usable(self) -> list[KeptBitmap]:
        return [kept for kept in self._kept if kept.usable]

    def _give_up(self, kept: KeptBitmap) -> None:
        kept.usable = False
        kept.portions.clear()

    @contextlib.contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """After an error nobody knows which bits are in the file, so no bitmap is believed."""
        try:
            yield
        except BaseException:
            self._kept = []
            raise

    # ------------------------------------------------------------------------- tables

    def _check_table(self, kept: KeptBitmap) -> None:
        if kept.row.fault(kept.size, self._cluster_size):
            raise UnusableBitmapError
        self._check_own(kept.table_offset, div_up(kept.entries * ENTRY_SIZE, self._cluster_size))

    def _check_own(self, offset: int, count: int) -> None:
        """Nobody else may use these clusters: they are written in place."""
        first, rest = divmod(offset, self._cluster_size)
        meta = self._meta
        whole = not rest and first and offset + (count - 1) * self._cluster_size < self._file.size
        if not whole or any(
            meta.refcounts.get(cluster) != 1 or cluster in meta.protected
            for cluster in range(first, first + count)
        ):
            raise UnusableBitmapError

    def _entry(self, kept: KeptBitmap, index: int) -> int:
        """One entry of the table in the file, that can be used."""
        data = self._file.pread(ENTRY_SIZE, kept.table_offset + index * ENTRY_SIZE)
        entry = int.from_bytes(data, "big")
        if not is_table_entry(entry, self._cluster_size):
            raise UnusableBitmapError
        if entry > ALL_ONES:
            self._check_own(entry, 1)
        return entry

    def _load(self, kept: KeptBitmap, number: int) -> bytearray:
        index, at = divmod(number * self._portion, self._cluster_size)
        entry = self._entry(kept, index)
        if entry <= ALL_ONES:
            return bytearray((b"\xff" if entry else b"\0") * self._portion)
        return bytearray(self._file.pread(self._portion, entry + at))

    # ------------------------------------------------------------------------- writing

    def store(self) -> None:
        """Write all bits, and let the bitmaps be believed.  Raises TargetError, FormatError.

        What they record must be written before, or be in ``metadata``.
        """
        if not self._marked:
            return
        self._write_out()
        for kept in self._usable():
            if kept.size == self._meta.header.guest_size:
                self._write_flags(kept.row, in_use=False)
        self._file.flush()
        self._kept, self._marked = [], False

    def _write_out(self) -> None:
        """Write the portions to their clusters, and name new clusters in the tables."""
        named: dict[int, int] = {}
        self._held = 0
        with self._all_or_none():
            for kept in self._usable():
                with self._giving_up(kept):
                    self._write_portions(kept, named)
            self._meta.commit()
            for at, entry in named.items():
                self._file.pwrite(entry.to_bytes(ENTRY_SIZE, "big"), at)
            if named:
                self._file.flush()

    def _write_portions(self, kept: KeptBitmap, named: dict[int, int]) -> None:
        for number in sorted(kept.portions):
            index, at = divmod(number * self._portion, self._cluster_size)
            place = kept.table_offset + index * ENTRY_SIZE
            entry = named.get(place) or self._entry(kept, index)
            if entry == ALL_ONES:
                continue
            if not entry:
                entry = named[place] = self._new_cluster(b"\0")
            self._file.pwrite(kept.portions[number], entry + at)
        kept.portions.clear()

    def _new_cluster(self, byte: bytes) -> int:
        host = self._meta.refcounts.allocate(1) * self._cluster_size
        self._file.pwrite(byte * self._cluster_size, host)
        return host


def set_bits(data: bytearray, first: int, last: int) -> None:
    """Set the bits ``first`` to ``last``; bit 0 is the lowest one of byte 0."""
    start, end = first >> 3, last >> 3
    head, tail = 0xFF << (first & 7) & 0xFF, 0xFF >> (7 - (last & 7))
    if start == end:
        data[start] |= head & tail
        return
    data[start] |= head
    data[start + 1 : end] = b"\xff" * (end - start - 1)
    data[end] |= tail
