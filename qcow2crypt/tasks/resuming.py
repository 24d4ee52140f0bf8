"""Convert so that a conversion that was killed can go on.

The unfinished file and a journal stay beside the target.  The journal holds which runs of the guest
disk were stored, up to a point at which all was on the disk.  Places follow from the runs alone, so
to go on they are decided once more, without reading or writing.  Some of what was stored is made
again from the source and compared: so a changed source, another passphrase or a damaged file is
found.  No guest byte and no hash of one is in the journal.
"""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from qcow2crypt.errors import ArgumentError, SourceError, TargetError
from qcow2crypt.image.base import Image
from qcow2crypt.image.placed import Run
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot
from qcow2crypt.secret import Secret
from qcow2crypt.targetdevice import is_device
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.conversion import ConvertResult
from qcow2crypt.tasks.creation import (
    PlacingWriter,
    Target,
    TargetFormat,
    TargetOptions,
    disk_writer,
)
from qcow2crypt.tasks.filling import Filler, Progress
from qcow2crypt.tasks.journal import Journal
from qcow2crypt.tasks.leftover import journal_of
from qcow2crypt.tasks.manner import USUAL, Manner
from qcow2crypt.tasks.sourcefiles import Watch, files_of, refuse_sources, stamp
from qcow2crypt.units import GuestOffset, ReadBuffer
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE

INTERVAL = 256 << 20
"""After so many guest bytes all is brought to the disk and noted."""
_VERSION = 1
_ALWAYS_FIRST, _ALWAYS_LAST, _AT_RANDOM = 2, 8, 16
"""So many records are compared with the source."""


def convert_resumable(
    images: Sequence[Image],
    target: Target,
    *,
    target_format: TargetFormat = "raw",
    target_secret: Secret = None,
    options: TargetOptions = None,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
    manner: Manner = USUAL,
) -> ConvertResult:
    """As ``convert_images``; what an earlier call for the same target left is gone on with.

    After an error the unfinished file and the journal stay, see ``left_over``.  The result is that
    of an uninterrupted conversion, byte for byte.  A new file as target only, without a backing
    file, a data file or compression.  Raises what ``convert_images`` raises; SourceError and
    TargetError when what is left does not belong to this conversion.
    """
    _check(target, options)
    size = sum(image.size for image in images)
    watch = Watch(images)
    filler = Filler(sparse_size, progress, size, manner)
    with TargetFile(target, cache=manner.target_cache, kept=True) as file:
        refuse_sources(images, file)
        file.lock()
        with closing(Journal(Path(journal_of(file.part)))) as journal:
            about = _describe(images, target_format, options, sparse_size)
            resumed = _Resumed(file, journal, images)
            filler.journal = resumed
            with resumed:
                found = resumed.begin(about)
                writer = disk_writer(
                    file, size, target_format, options, secret=target_secret, engine=engine
                )
                start = resumed.replay(writer, filler) if found else 0
                file.replaying = None
                filler.copy_all(images, writer, start)
                _check_watch(watch, resumed)
                writer.finish()
                file.commit()
                journal.remove()
    return ConvertResult(size, filler.stored)


def _check(target: Target, options: TargetOptions) -> None:
    if is_device(target):
        raise ArgumentError("a conversion to a device cannot go on later: leave resume out")
    if isinstance(options, Qcow2Options) and (options.backing_file or options.data_file):
        raise ArgumentError(
            "a conversion with a backing file or a data file cannot go on later: leave resume out"
        )


def _check_watch(watch: Watch, resumed: _Resumed) -> None:
    try:
        watch.check()
    except SourceError:
        resumed.give_up()  # what is there is from before and from after
        raise


def _describe(
    images: Sequence[Image], target_format: str, options: TargetOptions, sparse_size: int
) -> dict[str, Any]:
    """What must be the same to go on, as JSON has it."""
    return {
        "version": _VERSION,
        "format": target_format,
        "options": None if options is None else dataclasses.asdict(options),
        "sparse_size": sparse_size,
        "sources": [
            [image.size, image.description.id if isinstance(image, Qcow2Snapshot) else None]
            for image in images
        ],
        "files": [found and list(found) for found in map(stamp, files_of(images))],
    }


class _Resumed:
    """One conversion with its journal: a ``Journaling`` for the filler."""

    def __init__(self, file: TargetFile, journal: Journal, images: Sequence[Image]) -> None:
        self._file = file
        self._journal = journal
        self._images = images
        self._waiting: deque[tuple[int, list[int]]] = deque()
        self._synced = 0
        self.is_worth = False
        """Whether there is something to go on with later."""

    def begin(self, about: dict[str, Any]) -> bool:
        """Whether there is something to go on with.  Raises TargetError if it is of another."""
        before = self._journal.about
        if next(self._journal.records(), None) is not None and self._file.size:
            self.is_worth = True
            if before == about:
                self._file.replaying = _nowhere
                return True
            changed = sorted(key for key in about if before.get(key) != about[key])
            raise TargetError(
                f"what is left of a conversion to '{self._file.name}' is not of this one: "
                f"{', '.join(changed)} changed. Delete '{self._file.part}' and "
                f"'{self._journal.path}' to begin anew"
            )
        self._file.truncate(0)
        self._journal.begin(about)
        return False

    def __enter__(self) -> None:
        """From here on it is decided what stays after an error."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and not self.is_worth:
            self.give_up()

    def give_up(self) -> None:
        """What is there is of no use: nothing stays."""
        self.is_worth = self._file.keeps_part = False
        self._journal.remove()

    def replay(self, writer: object, filler: Filler) -> int:
        """Decide the places once more; gives the guest offset to go on from."""
        if not isinstance(writer, PlacingWriter):
            raise ArgumentError("this conversion cannot go on later: leave resume out")
        count = sum(1 for _ in self._journal.records())
        compared = self._compared(count)
        far = 0
        for number, (end, flat) in enumerate(self._journal.records()):
            far = end
            runs = list(_runs(flat))
            length = sum(size for _, _, size in runs)
            filler.stored += length
            placed = writer.place(runs)
            if number in compared:
                buffer = bytearray(length)
                with memoryview(buffer) as view:
                    for offset, at, size in runs:
                        self._read(view[at : at + size], offset)
                    self._file.replaying = self._compare
                    writer.put(placed, view)
                    self._file.replaying = _nowhere
        self._synced = far
        return far

    def _compared(self, count: int) -> frozenset[int]:
        """Which records are compared: all where a changed source does not show otherwise."""
        if any(found is None or found[-1] is None for found in map(stamp, files_of(self._images))):
            return frozenset(range(count))
        some = random.sample(range(count), min(count, _AT_RANDOM))
        first, last = range(min(count, _ALWAYS_FIRST)), range(max(0, count - _ALWAYS_LAST), count)
        return frozenset((*some, *first, *last))

    def _read(self, view: memoryview, offset: int) -> None:
        for image in self._images:
            if offset < image.size:
                image.preadinto(view, offset)
                return
            offset -= image.size

    def _compare(self, data: ReadBuffer, offset: int) -> None:
        view = memoryview(data).cast("B")
        if self._file.pread(view.nbytes, offset) != bytes(view):
            raise TargetError(
                f"what is left of a conversion to '{self._file.name}' is not what this one "
                "writes: the source, a passphrase or the unfinished file is another. Delete "
                f"'{self._file.part}' and '{self._journal.path}' to begin anew"
            )

    # For the filler.

    def note(self, end: int, runs: Sequence[Run]) -> None:
        """See ``Journaling``."""
        self._waiting.append(
            (end, [number for offset, _, size in runs for number in (offset, size)])
        )

    def done(self, end: int) -> None:
        """See ``Journaling``."""
        if end - self._synced < INTERVAL:
            return
        records = []
        while self._waiting and self._waiting[0][0] <= end:
            records.append(self._waiting.popleft())
        self._file.flush()
        if records:
            self._journal.append(records)
            self.is_worth = True
        self._synced = end


def _runs(flat: Sequence[int]) -> Iterator[Run]:
    at = 0
    for offset, size in zip(flat[::2], flat[1::2], strict=True):
        yield GuestOffset(offset), at, size
        at += size


def _nowhere(data: ReadBuffer, offset: int) -> None:
    """The file holds this already."""
