"""A run: case after case on several workers, until the time is over; what differs is shrunk.

The folder of a run has ``state.json`` and a folder for each report.  Whatever ends a run, its
workers and temporary files are gone, and it can go on from its state.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import qcow2crypt
from qcow2crypt.difftest.builds import PREFIX, BuildReader, tools_of
from qcow2crypt.difftest.examining import Setup
from qcow2crypt.difftest.outcomes import Content, isolated
from qcow2crypt.difftest.pool import Pool
from qcow2crypt.difftest.readers import QemuReader, Reader, reader_named
from qcow2crypt.difftest.settings import Settings, State
from qcow2crypt.difftest.worker import (
    Answer,
    Ask,
    AskToShrink,
    Examined,
    Failed,
    Question,
    Shrunk,
    Worker,
)
from qcow2crypt.difftest.writers import writer_named
from qcow2crypt.errors import ArgumentError, DifftestError
from qcow2crypt.tempfolder import temporary_folder
from qcow2crypt.testing import ours
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.generate import profile_named
from qcow2crypt.testing.tools import QemuTools

_MEMORY = Path("/dev/shm")  # noqa: S108 - not a guessable file: a folder is made in it
_ROOM = 512 << 20
_PREFIX = "qcow2crypt-difftest-"
_SAVED_EVERY = 2.0
_NOT_MADE_MAX = 10


class Progress(NamedTuple):
    """How far a run is."""

    seconds: float
    of: float
    cases: int
    differences: int
    shrinking: int


Tell = Callable[[Progress], None]


def make_setup(settings: Settings) -> Setup:
    """The programs that the settings name.  Raises DifftestError, ArgumentError."""
    profile_named(settings.profile)
    if settings.subject == settings.oracle:
        raise ArgumentError(f"subject and oracle are both '{settings.subject}': nothing to compare")
    names = (settings.subject, settings.oracle)
    of_build = settings.oracle.startswith(PREFIX)
    tools = tools_of(settings.oracle) if of_build else QemuTools.find()
    subject, oracle = (_reader(name, tools, settings) for name in names)
    return Setup(tools, oracle, subject, writer_named(settings.writer), settings.longest)


def _reader(name: str, tools: QemuTools, settings: Settings) -> Reader:
    if not name.startswith(PREFIX):
        return reader_named(name, tools)
    if name != settings.oracle:
        return BuildReader(name)
    reader = QemuReader(tools, name)
    reader.version += f" in {Path(tools.img).parent}"
    return reader


def run(state: State, folder: Path, tell: Tell, only: Case | None = None) -> dict[str, Any]:
    """Do what is left of a run, and give its summary as plain values.  Raises DifftestError."""
    setup = make_setup(state.settings)
    with temporary_home() as home:
        if "ours" in (state.settings.subject, state.settings.oracle, state.settings.writer):
            _import_all(home)
        settings = state.settings
        worker = Worker(setup, settings.seed, settings.profile, home, only)
        with Pool(settings.jobs, worker.serve) as pool:
            _Loop(state, folder, tell, pool).go()
    return summary(state, setup)


def _import_all(home: Path) -> None:
    """Import what reading and writing takes, once and not in every fork."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        outcome = isolated(lambda: " ".join(ours.modules_at_work(Path(folder))).encode(), 20.0)
    if isinstance(outcome, Content):
        for name in outcome.data.decode().split():
            import_module(name)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder for images, gone at the end: where TMPDIR says, else in memory if there is room."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
    roomy = roomy and "TMPDIR" not in os.environ
    with temporary_folder(_PREFIX, _MEMORY if roomy else None) as folder:
        yield folder


class _Loop:
    """Hands out cases, takes in what came of them."""

    def __init__(self, state: State, folder: Path, tell: Tell, pool: Pool) -> None:
        self._state = state
        self._folder = folder
        self._tell = tell
        self._pool = pool
        self._busy: dict[Connection, Question] = {}
        self._to_shrink: deque[AskToShrink] = deque()
        self._again = deque(state.again)
        self._began = time.monotonic()
        self._before = state.spent
        self._saved = 0.0

    def go(self) -> None:
        """Until there is nothing left, or the time is over and what was found is shrunk."""
        try:
            while self._hand_out() or self._busy:
                for end, answer in self._pool.answers(0.5):
                    question = self._busy.pop(end)
                    self._take_in(question, answer)
                self._progress()
        finally:
            self._save()

    def _hand_out(self) -> bool:
        """Give each idle worker something; whether one got something."""
        given = False
        for end in self._pool.ends:
            if end in self._busy:
                continue
            question = self._question()
            if question is None:
                break
            end.send(question)
            self._busy[end] = question
            given = True
        return given

    def _question(self) -> Question | None:
        if self._to_shrink:
            return self._to_shrink.popleft()
        if self._again:
            return Ask(self._again.popleft())
        state, settings = self._state, self._state.settings
        if settings.cases is not None and state.next >= settings.start + settings.cases:
            return None
        if self._spent() >= settings.seconds:
            return None
        state.next += 1
        return Ask(state.next - 1)

    def _take_in(self, question: Question, answer: Answer) -> None:
        if isinstance(answer, Failed):
            raise DifftestError(
                f"case {answer.number} cannot be examined: {answer.message}; "
                f"'--start {answer.number} --cases 1' does it alone"
            )
        if isinstance(answer, Examined):
            self._state.counts.update(answer.counts)
            for kind, text in answer.examples.items():
                if text:
                    self._state.examples.setdefault(kind, f"case {answer.number}: {text}")
            if answer.not_made is not None and len(self._state.not_made) < _NOT_MADE_MAX:
                row = {"case": answer.number, "message": answer.not_made}
                self._state.not_made.append(row)
            for difference in answer.differences:
                group = self._state.groups.note(answer.number, difference)
                if group is not None:
                    target = self._folder / group.folder
                    self._to_shrink.append(AskToShrink(answer.number, difference, target))
            return
        assert isinstance(question, AskToShrink)  # noqa: S101 - it is the answer to this
        self._shrunk(question, answer)

    def _shrunk(self, question: AskToShrink, answer: Shrunk) -> None:
        groups = self._state.groups
        group = next(one for one in groups.groups if one.folder == question.folder.name)
        if not groups.shrunk(group, answer.features, answer.key):
            shutil.rmtree(question.folder, ignore_errors=True)

    def _spent(self) -> float:
        return self._before + time.monotonic() - self._began

    def _progress(self) -> None:
        shrinking = sum(isinstance(one, AskToShrink) for one in self._busy.values())
        self._tell(
            Progress(
                self._spent(),
                self._state.settings.seconds,
                self._state.counts["cases"],
                len(self._state.groups.groups),
                shrinking + len(self._to_shrink),
            )
        )
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self._save()

    def _save(self) -> None:
        asked = (one.number for one in self._busy.values() if isinstance(one, Ask))
        self._state.again = sorted({*self._again, *asked})
        self._state.spent = self._spent()
        self._state.save(self._folder)
        self._saved = time.monotonic()


def summary(state: State, setup: Setup) -> dict[str, Any]:
    """What a run found, as plain values."""
    settings = state.settings
    counts = Counter(state.counts)
    groups = state.groups.groups
    return {
        "difftest": 1,
        "subject": {"name": settings.subject, "version": setup.subject.version},
        "oracle": {"name": settings.oracle, "version": setup.oracle.version},
        "writer": settings.writer,
        "qemu": setup.tools.version,
        "qcow2crypt": qcow2crypt.__version__,
        "profile": settings.profile,
        "seed": settings.seed,
        "seconds": round(state.spent, 1),
        "jobs": settings.jobs,
        "counts": dict(sorted(counts.items())),
        "not_made": state.not_made,
        "examples": state.examples,
        "differences": [group.to_json() for group in groups],
        "wrong": sum(group.count for group in groups if not group.refusal),
        "refused": sum(group.count for group in groups if group.refusal),
    }
