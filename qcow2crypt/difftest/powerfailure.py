"""What our writer leaves when the power fails: no cluster may be used more often than it counts.

Every write of our writer is recorded.  The file is put together again as it stood after each of
them, and as it would stand if, of what came after the last flush, one write alone had arrived.
Content is not looked at here, refcounts are; ``qemu-img check`` has the last word.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.testing import ours
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.recording import Flush, Journal, Write
from qcow2crypt.testing.regions import low_refcounts
from qcow2crypt.testing.script import check_call
from qcow2crypt.testing.textbook import Layer
from qcow2crypt.testing.tools import QemuTools

_POINTS_MAX = 40


class Tear(NamedTuple):
    """A point at which the file is corrupt: what had reached the disk, and what is wrong."""

    when: str
    wrong: str
    content: bytes


class Watched(NamedTuple):
    """How many points were looked at, and the first that is corrupt."""

    points: int
    tear: Tear | None


def watch(case: Case, folder: Path) -> Watched:
    """Look at the top image of a case; what is under it is in the folder.  Errors as our writer."""
    journal = ours.record_top(case, folder)
    if journal is None:
        return Watched(0, None)
    points = 0
    for when, content in _points(journal):
        points += 1
        layer = Layer(folder / case.image, "qcow2", case.secrets, content)
        for cluster, (count, words) in low_refcounts(layer).items():
            wrong = f"host cluster {cluster} is used by {', '.join(words)}; its refcount is {count}"
            return Watched(points, Tear(when, wrong, content))
    return Watched(points, None)


def confirmed(case: Case, tear: Tear, folder: Path, tools: QemuTools) -> str | None:
    """What qemu-img check says of the file at that point; None where it finds no corruption."""
    (folder / case.image).write_bytes(tear.content)
    done = tools.call(check_call(case), folder)
    try:
        count = int(json.loads(done.stdout).get("corruptions", 0))
    except ValueError:
        return done.complaint()
    return f"qemu-img check: {count} corruptions" if count else None


def _points(journal: Journal) -> Iterator[tuple[str, bytes]]:
    events = journal.events
    numbers = [number for number, event in enumerate(events) if not isinstance(event, Flush)]
    if len(numbers) > _POINTS_MAX:
        chosen = random.Random(len(numbers))  # noqa: S311 - must be repeatable
        numbers = sorted(chosen.sample(numbers, _POINTS_MAX))
    for number in numbers:
        what = _told(journal, number)
        yield f"after write {number + 1} of {len(events)}, {what}", journal.prefix(number + 1)
        if journal.settled(number) != number:
            alone = journal.alone(number)
            yield f"with write {number + 1} of {len(events)}, {what}, before its neighbours", alone


def _told(journal: Journal, number: int) -> str:
    """What one event is."""
    event = journal.events[number]
    if not isinstance(event, Write):
        return "another length of the file"
    return f"of {len(event.data)} bytes at host offset {event.offset:#x}"
