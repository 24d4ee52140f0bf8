"""What one worker does: examine cases by number, and shrink those that it is told to."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, TypeAlias

from qcow2crypt.difftest.differences import Difference
from qcow2crypt.difftest.examining import Found, Setup, examine
from qcow2crypt.difftest.features import features
from qcow2crypt.difftest.report import write_report
from qcow2crypt.difftest.shrinking import TRIES, TRIES_OF_HANGING, shrink
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.generate import make_case


class Ask(NamedTuple):
    """Examine the case with this number."""

    number: int


class AskToShrink(NamedTuple):
    """Make the case with this number small, and write a report into ``folder``."""

    number: int
    difference: Difference
    folder: Path


class Examined(NamedTuple):
    """What came of a case."""

    number: int
    counts: Counter[str]
    differences: list[Difference]
    not_made: str | None
    examples: dict[str, str]


class Shrunk(NamedTuple):
    """A report is written; ``key`` and ``features`` are those of the small case."""

    number: int
    key: tuple[str, ...]
    features: tuple[str, ...]


class Failed(NamedTuple):
    """Something that should not be."""

    number: int
    message: str


Question: TypeAlias = "Ask | AskToShrink"
Answer: TypeAlias = "Examined | Shrunk | Failed"


class Worker:
    """Examines cases in folders below ``home``, which are gone afterwards.

    ``only`` is the one case that there is, where it does not come from seed and profile.
    """

    def __init__(
        self, setup: Setup, seed: int, profile: str, home: Path, only: Case | None = None
    ) -> None:
        self.setup = setup
        self.seed = seed
        self.profile = profile
        self.home = home
        self.only = only

    def serve(self, connection: Connection) -> None:
        """Answer questions until the other end is closed."""
        while True:
            try:
                question = connection.recv()
            except EOFError:
                return
            connection.send(self.answer(question))

    def answer(self, question: Question) -> Answer:
        """Do what is asked."""
        try:
            if isinstance(question, Ask):
                found = self._examine(self.case(question.number))
                return Examined(
                    question.number,
                    found.counts,
                    found.differences,
                    found.not_made,
                    found.examples,
                )
            return self._shrink(question)
        except Exception as error:  # noqa: BLE001 - the caller must know which case it was
            return Failed(question.number, f"{type(error).__name__}: {error}")

    def case(self, number: int) -> Case:
        """The case with a number: the same for the same seed and profile, wherever it is made."""
        if self.only is not None:
            return self.only
        choose = random.Random(f"{self.seed} {number}")  # noqa: S311 - must be repeatable
        return make_case(choose, self.profile)

    def _examine(self, case: Case) -> Found:
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            return examine(self.setup, case, Path(folder))

    def _shrink(self, question: AskToShrink) -> Shrunk:
        case = self.case(question.number)
        sought = question.difference

        def shown(candidate: Case, folder: Path) -> Difference | None:
            found = examine(self.setup, candidate, folder, (sought.part,))
            return next((one for one in found.differences if one.alike(sought)), None)

        def shows(candidate: Case) -> bool:
            with tempfile.TemporaryDirectory(dir=self.home) as folder:
                return shown(candidate, Path(folder)) is not None

        tries = TRIES_OF_HANGING if sought.kind == "hung" else TRIES
        small = shrink(case, shows, tries)
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            difference = shown(small, Path(folder)) or sought
            write_report(self.setup, small, difference, Path(folder), question.folder)
        return Shrunk(question.number, difference.key(), features(small))
