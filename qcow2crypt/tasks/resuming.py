"""Convert so that a conversion that was killed can go on.

The unfinished file and a journal stay beside the target.  The journal holds which runs of the guest
disk were stored, up to a point at which all was on the disk.  Places follow from the runs alone (of
compressed clusters: from their lengths), so to go on they are decided once more, without reading or
writing.  Some of what was stored is made again from the source and compared: so a changed source,
another passphrase or a damaged file is found.  No guest byte and no hash of one is in the journal.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.image.base import Image
from qcow2crypt.image.placed import Run
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot
from qcow2crypt.targetdevice import is_device
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.creation import AnyWriter, PlacingWriter, Target, TargetOptions
from qcow2crypt.tasks.journal import Journal
from qcow2crypt.tasks.leftover import journal_of
from qcow2crypt.tasks.manner import Manner
from qcow2crypt.tasks.recording import Recorder, Step, joined
from qcow2crypt.tasks.replaying import cluster_size, nowhere, replay
from qcow2crypt.tasks.sourcefiles import files_of, stamp
from qcow2crypt.tasks.work import Work

INTERVAL = 256 << 20
INTERVAL_SECONDS = 30
"""After so many guest bytes, or seconds, all is brought to the disk and noted."""
_VERSION = 2


def kept_target(target: Target, options: TargetOptions, manner: Manner) -> TargetFile:
    """A target whose unfinished file stays.  Raises ArgumentError, TargetError."""
    if is_device(target):
        raise ArgumentError(
            "a conversion to a device cannot go on later: leave out --resume (resume)"
        )
    if isinstance(options, Qcow2Options) and options.data_file:
        raise ArgumentError(
            "a conversion with a new data file cannot go on later: leave out --resume (resume)"
        )
    return TargetFile(target, cache=manner.target_cache, kept=True)


class Resumed:
    """One conversion with its journal: a ``Journaling`` for the filler.

    A context manager.  It decides what stays after an error.
    """

    def __init__(self, file: TargetFile) -> None:
        self.start = self.stored = 0
        self._file = file
        self._journal = Journal(Path(journal_of(file.part)))
        self._work: Work | None = None
        self._goes_on = False
        self._waiting: deque[Step] = deque()
        self._synced = self._far = 0
        self._noted_at = time.monotonic()
        self._is_worth = next(self._journal.records(), None) is not None and file.size > 0
        """Whether there is something to go on with later."""

    def __enter__(self) -> Resumed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            with contextlib.suppress(TargetError):  # such as a disk that is full
                self._note_done()
            if not self._is_worth:
                self.give_up()
        self._journal.close()

    def give_up(self) -> None:
        """What is there is of no use: nothing stays."""
        self._far = self._synced
        self._is_worth = self._file.keeps_part = False
        self._journal.remove()

    def finish(self) -> None:
        """The target is there."""
        self._journal.remove()

    # For the filler: see ``Journaling``.

    def begin(self, work: Work) -> None:
        """See ``Journaling``."""
        self._work = work
        about, before = _describe(work), self._journal.about
        if self._is_worth:
            if before == about:
                self._goes_on = True
                self._file.replaying = nowhere
                return
            changed = sorted(key for key in about if before.get(key) != about[key])
            raise TargetError(
                f"what is left of a conversion to '{self._file.name}' is not of this one: "
                f"{', '.join(changed)} changed. Delete '{self._file.part}' and "
                f"'{self._journal.path}' to begin anew"
            )
        self._file.truncate(0)
        self._journal.begin(about)

    def __call__(self, writer: AnyWriter) -> AnyWriter:
        """See ``Journaling``."""
        if self._work is None:
            raise ArgumentError("begin comes first")
        if self._goes_on:
            if not isinstance(writer, PlacingWriter):
                raise ArgumentError("this conversion cannot go on later: leave out resume")
            done = replay(self._file, self._journal, self._work, writer)
            self.start, self.stored = done
            self._synced = self._far = self.start
            self._file.replaying = None
        if not self._in_steps:
            return writer
        return cast(
            "AnyWriter",
            Recorder(cast("Any", writer), cluster_size(self._work), self._waiting.append),
        )

    @property
    def _in_steps(self) -> bool:
        """Whether the writer is followed, not the filler: only there is known what is stored."""
        return self._work is not None and (self._work.compress or self._work.backing is not None)

    def note(self, end: int, runs: Sequence[Run]) -> None:
        """See ``Journaling``."""
        if not self._in_steps:
            flat = [number for offset, _, size in runs for number in (offset, size)]
            self._waiting.append(Step(end, "d", flat))

    def done(self, end: int) -> None:
        """See ``Journaling``."""
        self._far = max(self._far, end)
        late = time.monotonic() - self._noted_at >= INTERVAL_SECONDS
        if end - self._synced >= INTERVAL or (late and end > self._synced):
            self._note_done()

    def _note_done(self) -> None:
        end = self._far
        if end <= self._synced:
            return
        steps = []
        while self._waiting and self._waiting[0].end <= end:
            steps.append(self._waiting.popleft())
        if self._work is None or not self._work.compress:  # else some of it may not be stored yet
            steps.append(Step(end, "d", []))
        if steps:
            self._file.flush()
            self._journal.append([[one.end, one.kind, *one.numbers] for one in joined(steps)])
            self._is_worth = True
        self._synced = end
        self._noted_at = time.monotonic()


def _describe(work: Work) -> dict[str, Any]:
    """What must be the same to go on, as JSON has it."""
    about = {
        "version": _VERSION,
        "format": work.target_format,
        "options": None if work.options is None else work.options._asdict(),
        "sparse_size": work.sparse_size,
        "compression": work.compress,
        "bitmaps": [one.entry.shown for one in work.bitmaps.bitmaps] if work.bitmaps else [],
        "sources": [_source(image) for image in work.read],
        "files": list(map(stamp, files_of(work.read))),
    }
    return cast("dict[str, Any]", json.loads(json.dumps(about)))


def _source(image: Image) -> tuple[int, str | None]:
    return image.size, image.description.id if isinstance(image, Qcow2Snapshot) else None
