"""One case, examined: made by QEMU, read by oracle and subject, written by the subject's writer."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from qcow2crypt.difftest import powerfailure
from qcow2crypt.difftest.differences import Difference, Part, compare, compare_content
from qcow2crypt.difftest.outcomes import Content, Outcome, Refused, isolated
from qcow2crypt.difftest.readers import QemuReader, Reader
from qcow2crypt.difftest.writers import OurWriter, Writer
from qcow2crypt.errors import DifftestError
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.tools import QemuTools

PARTS: tuple[Part, ...] = ("read", "write", "order")
MADE, WRITTEN = "made", "written"
"""The folders in which QEMU and the writer make the images of a case."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Who is held against whom.

    ``writer`` is None where nothing is written; ``longest`` is how many seconds a program gets.
    """

    tools: QemuTools
    oracle: Reader
    subject: Reader
    writer: Writer | None
    longest: float = 20.0


@dataclass(slots=True)
class Found:
    """What came of one case: its differences, and how much was compared.

    ``not_made`` is what QEMU said where it did not carry out the case; ``examples`` tell more of
    what is counted.
    """

    differences: list[Difference] = field(default_factory=list)
    not_made: str | None = None
    examples: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, difference: Difference | None, what: str) -> None:
        """One comparison was made."""
        self.counts[what] += 1
        if difference is not None:
            self.differences.append(difference)


def examine(setup: Setup, case: Case, folder: Path, parts: Collection[Part] = PARTS) -> Found:
    """Do all of it in an empty folder.  A case that QEMU does not make is counted, no error."""
    found = Found()
    made = folder / MADE
    made.mkdir()
    try:
        setup.tools.make(case, made)
    except DifftestError as error:
        found.counts["not made"] += 1
        found.not_made = str(error)
        return found
    found.counts["cases"] += 1
    if "read" in parts:
        _read(setup, case, made, found)
    if setup.writer is not None and ("write" in parts or "order" in parts):
        _write(setup, case, folder, found, parts)
    return found


def _read(setup: Setup, case: Case, made: Path, found: Found) -> None:
    if reason := setup.subject.prepare(case, made):
        found.counts["not made by the subject"] += 1
        found.examples["not made by the subject"] = reason
        return
    for snapshot in (None, *case.top.snapshots):
        if not (setup.subject.can(case, snapshot) and setup.oracle.can(case, snapshot)):
            found.counts["not asked"] += 1
            continue
        what = "the disk" if snapshot is None else f"snapshot {snapshot}"
        wanted = setup.oracle.read(case, made, snapshot, setup.longest)
        got = setup.subject.read(case, made, snapshot, setup.longest)
        difference = _compared(case, snapshot, (wanted, got), "read", what)
        found.note(difference, "disks read" if snapshot is None else "snapshots read")
    for remark in setup.subject.remarks(case, made):
        found.counts[remark.kind] += 1
        found.examples[remark.kind] = remark.example


def _compared(
    case: Case, snapshot: str | None, outcomes: tuple[Outcome, Outcome], part: Part, what: str
) -> Difference | None:
    wanted, got = outcomes
    if snapshot is None or not (isinstance(wanted, Content) and isinstance(got, Content)):
        return compare(wanted, got, part, what)
    # QEMU shows a snapshot in the present size of the disk: behind its own size is anything.
    size = case.top.snapshots[snapshot]
    return compare_content(wanted.data[:size], got.data[:size], part, what, resized=True)


def _write(setup: Setup, case: Case, folder: Path, found: Found, parts: Collection[Part]) -> None:
    """What the writer makes of the case must be for QEMU what QEMU itself makes of it."""
    assert setup.writer is not None  # noqa: S101 - the caller has seen to it
    written = folder / WRITTEN
    written.mkdir()
    outcome = setup.writer.write(case, written, setup.longest)
    if isinstance(outcome, Refused) and outcome.unsupported:
        found.counts["not written"] += 1
        return
    if not isinstance(outcome, Content):
        found.note(compare(Content(b""), outcome, "write", "the images"), "disks written")
        return
    if "write" in parts:
        _compare_written(setup, case, folder, found)
    if "order" in parts and isinstance(setup.writer, OurWriter):
        _order(setup, case, written, found)


def _compare_written(setup: Setup, case: Case, folder: Path, found: Found) -> None:
    reader = QemuReader(setup.tools)
    for snapshot in (None, *case.top.snapshots):
        what = "the written disk" if snapshot is None else f"the written snapshot {snapshot}"
        wanted, got = (
            reader.read(case, folder / side, snapshot, setup.longest) for side in (MADE, WRITTEN)
        )
        counted = "disks written" if snapshot is None else "snapshots written"
        found.note(_compared(case, snapshot, (wanted, got), "write", what), counted)
    try:
        said = setup.tools.check(case, folder / WRITTEN)
    except DifftestError as error:
        found.note(Difference("corrupt tables", "write", "the tables", str(error)), "checks")
        return
    message = ", ".join(f"{key}: {count}" for key, count in said.items())
    difference = Difference("corrupt tables", "write", "the tables", message) if said else None
    found.note(difference, "checks")


def _order(setup: Setup, case: Case, written: Path, found: Found) -> None:
    outcome = isolated(lambda: pickle.dumps(powerfailure.watch(case, written)), setup.longest)
    if not isinstance(outcome, Content):
        found.note(compare(Content(b""), outcome, "order", "the images"), "orders")
        return
    watched: powerfailure.Watched = pickle.loads(outcome.data)  # noqa: S301 - our own child's
    found.counts["points in time"] += watched.points
    difference = None
    if watched.tear is not None:
        tear = watched.tear
        said = powerfailure.confirmed(case, tear, written, setup.tools)
        if said is not None:
            message = f"refcount too low\n{tear.when}: {tear.wrong}\n{said}"
            difference = Difference("corrupt after a power failure", "order", "the tables", message)
    found.note(difference, "orders")
