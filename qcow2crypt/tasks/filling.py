"""Fill a new image from guest disks, in ascending order and in bounded pieces.

Where requests begin is as in ``qemu-img convert``: it decides where clusters go, so the files come
out the same.  Knows extents and guest bytes on one side, a writer on the other.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.extents import Stretch, as_stretches
from qcow2crypt.output import Output
from qcow2crypt.secret import Secret
from qcow2crypt.tasks.batches import PIECE, Batch, cut, gathered, telling_bounds
from qcow2crypt.tasks.creation import DiskWriter, PlacingWriter, disk_writer
from qcow2crypt.tasks.manner import USUAL, Manner
from qcow2crypt.tasks.pipeline import Turn, in_turn
from qcow2crypt.tasks.storing import Storer
from qcow2crypt.tasks.work import Journaling, Work
from qcow2crypt.units import GuestOffset

if TYPE_CHECKING:
    from qcow2crypt.tasks.salvaging import Salvager

Progress: TypeAlias = Callable[[int, int], None]


class Filler:
    """One copying job: what is the same for every range that it copies.

    ``sparse_size`` in bytes, 0 to store all; ``stored`` counts the guest bytes that were written.
    ``manner`` says how it is done.  With ``salvager`` sources are read past errors.
    """

    def __init__(
        self,
        sparse_size: int,
        progress: Progress | None,
        total: int,
        manner: Manner = USUAL,
        salvager: Salvager | None = None,
    ) -> None:
        self.salvager = salvager
        self.sparse_size = sparse_size
        self._progress = progress
        self.total = total
        self.manner = manner
        self._limit = manner.limit()
        self.journal: Journaling | None = None
        self.stored = 0

    @property
    def start(self) -> int:
        """All before this guest offset was stored earlier."""
        return 0 if self.journal is None else self.journal.start

    def begin(
        self, file: Output, size: int, work: Work, *, secret: Secret, engine: str | None
    ) -> DiskWriter:
        """The writer of a new image of ``size`` guest bytes: all is known of what will be done."""
        if self.journal is not None:
            self.journal.begin(work)
        return disk_writer(
            file,
            size,
            work.target_format,
            work.options,
            secret=secret,
            engine=engine,
            backing=work.backing,
            compress=work.compress,
            keep_zeros=not work.sparse_size,
            bitmaps=work.bitmaps.bitmaps if work.bitmaps is not None else (),
            follow=self.journal,
        )

    def finish(self) -> None:
        """The new image is where it shall be."""
        if self.journal is not None:
            self.stored += self.journal.stored
            self.journal.finish()

    def note_stored(self, count: int) -> None:
        """So many guest bytes are going to be stored: in turn; waits if there is a limit."""
        if self._limit is not None:
            self._limit.take(count)
        self.stored += count

    def copy(self, image: Image, writer: DiskWriter, start: int = 0, *, to: int = 0) -> None:
        """Copy ``image`` from ``start`` to its end; its first byte goes to guest offset ``to``."""
        self.tell(to + start)
        in_turn(
            gathered(self._pieces(image, writer, start)),
            lambda: Copier(self, image, writer, to).do,
            lambda done: self.tell(to + done),
            self.manner.workers(),
            give_up=None if self._limit is None else self._limit.give_up,
        )

    def copy_all(self, images: Sequence[Image], writer: DiskWriter) -> None:
        """Copy several images, one behind the other."""
        end, start = 0, self.start
        for image in images:
            if start <= end + image.size:
                self.copy(image, writer, max(0, start - end), to=end)
            end += image.size

    def copy_changes(self, image: Image, writer: DiskWriter, backing: Image, unit: int) -> None:
        """Store what differs from ``backing``, in whole units of ``unit`` bytes.

        Where ``image`` itself has that backing file, only what its own layer holds is looked at.
        """
        shared = _is_same(image.backing, backing)
        self.tell(self.start)
        for extent in self._extents(image, self.start, own=shared):
            start, end = extent.guest_offset, extent.guest_offset + extent.length
            if not (shared and extent.kind is ExtentKind.UNALLOCATED):
                for offset in range(start, end, PIECE):
                    length = min(PIECE, end - offset)
                    new = self._read(image, length, offset)
                    old = backing.pread(length, offset).ljust(length, b"\0")
                    if new != old:
                        self._store_changes(writer, offset, Changes(new, old, offset, unit))
                    self.tell(offset + length)
            self.tell(end)

    def copy_differences(self, image: Image, writer: DiskWriter, disk: Image, unit: int) -> None:
        """Store what differs from ``disk``, which ``writer`` writes to, in units as above.

        Where both have one backing file, what neither of them holds itself is not looked at.
        """
        shared = image.backing is not None and _is_same(disk.backing, image.backing)
        self.tell(0)
        for extent in self._extents(image, own=shared):
            start, end = extent.guest_offset, extent.guest_offset + extent.length
            ranges = [(int(start), int(end))]
            if shared and extent.kind is ExtentKind.UNALLOCATED:
                ranges = [
                    (own.guest_offset, own.guest_offset + own.length)
                    for own in disk.own_extents(start, extent.length)
                    if own.kind is not ExtentKind.UNALLOCATED
                ]
            for first, last in ranges:
                for offset in range(first, last, PIECE):
                    length = min(PIECE, last - offset)
                    new, old = self._read(image, length, offset), disk.pread(length, offset)
                    if new != old:
                        self._store_changes(writer, offset, Changes(new, old, offset, unit))
                    self.tell(offset + length)
            self.tell(end)

    def _store_changes(self, writer: DiskWriter, start: int, changes: Changes) -> None:
        for action, first, end in changes.runs():
            position = GuestOffset(start + first)
            if action == "data":
                self.note_stored(end - first)
                writer.write(position, memoryview(changes.new)[first:end])
            elif action == "zeros":
                writer.write_zeroes(position, end - first)

    def _pieces(self, image: Image, writer: DiskWriter, start: int) -> Iterator[Stretch]:
        """What to copy, in pieces: the bounds are theirs.  What reads as zeros may be left out."""
        ends = image.request_ends()
        any_cuts = isinstance(writer, PlacingWriter) and writer.at_guest_offsets
        if self.salvager is None:
            stretches = image.stretches(start)
        else:
            stretches = as_stretches(start, self._extents(image, start))
        for stretch in stretches:
            if stretch.reads_as_zero and self.sparse_size:
                yield stretch
            else:
                bounds = stretch.bounds
                if any_cuts:
                    bounds = telling_bounds(bounds, self.sparse_size)
                for part in cut(ends, bounds):
                    yield Stretch(reads_as_zero=False, bounds=part)

    def _extents(self, image: Image, start: int = 0, *, own: bool = False) -> Iterator[Extent]:
        extents = image.own_extents if own else image.extents
        if self.salvager is None:
            return extents(start)
        return self.salvager.extents(extents, start, image.size)

    def _read(self, image: Image, length: int, offset: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(image, memoryview(buffer), offset)
        return bytes(buffer)

    def read_into(self, image: Image, view: memoryview, offset: int) -> None:
        """Read a part of a source, which has it all."""
        if self.salvager is None:
            image.preadinto(view, offset)
        else:
            self.salvager.preadinto(image, view, offset)

    def tell(self, done: int) -> None:
        """Report how far the work is."""
        if self.journal is not None:
            self.journal.done(done)
        if self._progress:
            self._progress(done, self.total)


class Copier:
    """Copies pieces of one image in one thread, with a buffer that is used again and again."""

    def __init__(self, filler: Filler, image: Image, writer: DiskWriter, to: int) -> None:
        self._filler = filler
        self._image = image
        self._storer = Storer(writer, filler.sparse_size)
        self._to = to
        self._buffer = bytearray()

    def do(self, batch: Batch, turn: Turn) -> int:
        """Copy some pieces.  Gives the guest offset in the source where they end."""
        if batch.pieces:
            if len(self._buffer) < batch.length:
                self._buffer = bytearray(max(batch.length, min(PIECE, self._filler.total)))
            with memoryview(self._buffer) as whole, whole[: batch.length] as view:
                self._copy(batch, view, turn)
        return batch.end

    def _copy(self, batch: Batch, view: memoryview, turn: Turn) -> None:
        for offset, at, length in batch.ranges:
            self._filler.read_into(self._image, view[at : at + length], offset)
        pieces, to = batch.pieces, self._to
        if to:
            pieces = [(GuestOffset(to + offset), at, length) for offset, at, length in pieces]
        runs = self._storer.runs(pieces, view)
        if not runs:
            return
        with turn:
            self._filler.note_stored(sum(length for _, _, length in runs))
            if self._filler.journal is not None:
                self._filler.journal.note(self._to + batch.end, runs)
            placed = self._storer.decide(runs, view)
        self._storer.put(placed, view)


class Changes(NamedTuple):
    """How ``new`` differs from ``old``, which have one length and begin at guest offset ``start``.

    It is told in units of ``unit`` bytes, aligned on the guest disk.
    """

    new: bytes
    old: bytes
    start: int
    unit: int

    def runs(self) -> Iterator[tuple[str, int, int]]:
        """(action, first, end) in order; an action is ``skip``, ``data`` or ``zeros``."""
        for action, units in itertools.groupby(self._units(), key=operator.itemgetter(0)):
            run = list(units)
            yield action, run[0][1], run[-1][2]

    def _units(self) -> Iterator[tuple[str, int, int]]:
        first, length = 0, len(self.new)
        while first < length:
            end = min(length, first + self.unit - (self.start + first) % self.unit)
            part = self.new[first:end]
            same = part == self.old[first:end]
            yield "skip" if same else "data" if any(part) else "zeros", first, end
            first = end


def _is_same(one: Image | None, other: Image) -> bool:
    if one is None:
        return False
    return one is other or (one.identity() is not None and one.identity() == other.identity())
