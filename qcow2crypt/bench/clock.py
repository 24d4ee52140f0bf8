"""Take samples of all subjects in turns.

Each round takes every subject once, in an order of its own, so that a slow moment of the machine
meets all of them and nobody always comes after the same neighbour.  A round before the first
warms up everything, and does not count.  The control is timed between them all the time.

Knows no subject; the clock is given, so that tests have one of their own.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qcow2crypt.bench.subjects import Missing, Subject, Work, named
from qcow2crypt.errors import BenchError

CONTROL_EVERY = 10
"""Subjects between two control samples."""

Clock = Callable[[], float]
Tell = Callable[[int, int, float], None]
"""Called with the number of the round (0 warms up), of the most rounds, and the seconds so far."""


@dataclass(slots=True)
class Taken:
    """What the rounds gave: samples of equal length for each work, in the order of the rounds."""

    rounds: int = 0
    samples: dict[Work, list[float]] = field(default_factory=dict)
    control: list[float] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def control_work() -> None:
    """The control: some milliseconds of work that never changes."""
    hashlib.pbkdf2_hmac("sha256", b"control", b"control", 4000)


def take_rounds(
    subjects: Sequence[Subject],
    *,
    rounds: int,
    seconds: float,
    patience: float,
    tell: Tell,
    clock: Clock = time.perf_counter,
    control: Callable[[], None] = control_work,
) -> Taken:
    """Warm up, then take up to ``rounds`` rounds, and none that would end after ``seconds``.

    A subject that raises BenchError, or takes longer than ``patience`` seconds for one sample,
    is left out and named in ``missing``.  One round at least is taken.
    """
    start = clock()
    taken = Taken()
    tell(0, rounds, 0.0)
    here = [subject for subject in subjects if _warmed(subject, patience, clock, taken)]
    taken.samples = {subject.work: [] for subject in here}
    warmed = clock()
    control()
    order = random.Random(1)  # noqa: S311 - the same order in every run
    while taken.rounds < rounds:
        now = clock()
        longest = (now - warmed) / taken.rounds if taken.rounds else 0.0
        if taken.rounds and now - start + longest > seconds:
            break
        tell(taken.rounds + 1, rounds, now - start)
        turn = order.sample(here, len(here))
        found: dict[Work, float] = {}
        for number, subject in enumerate(turn):
            if number % CONTROL_EVERY == 0:
                taken.control.append(_timed(control, clock))
            try:
                found[subject.work] = subject.sample()
            except BenchError as error:
                here.remove(subject)
                taken.samples.pop(subject.work, None)
                taken.missing.append(Missing(named(subject.work), str(error)))
        for work, own in taken.samples.items():
            own.append(found[work])
        taken.rounds += 1
    return taken


def _warmed(subject: Subject, patience: float, clock: Clock, taken: Taken) -> bool:
    """Do the work of a subject once, and look whether it was done right."""
    try:
        cost = _timed(subject.sample, clock)
        if subject.check is not None:
            subject.check()
    except BenchError as error:
        taken.missing.append(Missing(named(subject.work), str(error)))
        return False
    if cost > patience:
        why = f"one sample takes {cost:.2g} seconds, too long for a run of this length"
        taken.missing.append(Missing(named(subject.work), why))
        return False
    return True


def _timed(work: Callable[[], object], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start
