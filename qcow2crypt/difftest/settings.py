"""What a run shall do, as data, and how far it is: what ``--resume`` needs."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qcow2crypt.difftest.groups import Groups
from qcow2crypt.errors import DifftestError

STATE = "state.json"
_FORM = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Who is held against whom, and with which cases.

    ``subject``, ``oracle``, ``writer``  names or commands
    ``seed``, ``profile``  which cases there are
    ``start``    the number of the first
    ``cases``    how many at most; None: as many as there is time for
    ``seconds``  after these no case is begun
    ``longest``  seconds that a program gets for one piece of work
    """

    subject: str = "ours"
    oracle: str = "qemu-img"
    writer: str = "ours"
    profile: str = "all"
    seed: int = 1
    start: int = 0
    cases: int | None = None
    seconds: float = 60.0
    jobs: int = 1
    longest: float = 20.0


@dataclass(slots=True)
class State:
    """How far a run is.

    ``next``   the number of the next case
    ``again``  cases to be examined before it: what was in work when the run was broken off
    ``spent``  seconds, of all runs together
    ``not_made``  the first cases that QEMU did not carry out, and what it said
    ``examples``  of some counts: the first case, and what was seen there
    """

    settings: Settings
    next: int
    again: list[int] = field(default_factory=list)
    spent: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    groups: Groups = field(default_factory=Groups)
    not_made: list[dict[str, Any]] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all.  Raises DifftestError."""
        plain = {
            "difftest": _FORM,
            "settings": asdict(self.settings),
            "next": self.next,
            "again": self.again,
            "spent": round(self.spent, 1),
            "counts": dict(self.counts),
            "groups": self.groups.to_json(),
            "not_made": self.not_made,
            "examples": self.examples,
        }
        path, new = folder / STATE, folder / (STATE + ".new")
        try:
            new.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
            os.replace(new, path)  # noqa: PTH105 - both are in the same folder
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise DifftestError(f"'{path}' cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, folder: Path) -> State:
        """The state of a run that was broken off.  Raises DifftestError."""
        path = folder / STATE
        try:
            plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DifftestError(f"no run can go on there: '{path}': {error.strerror}") from error
        except ValueError:
            raise DifftestError(f"'{path}' is damaged: begin a new run") from None
        if plain.get("difftest") != _FORM:
            raise DifftestError(f"'{path}' was written by another version: begin a new run")
        groups = Groups.from_json(plain["groups"])
        # What was not shrunk to the end is looked at again.
        unfinished = [group for group in groups.groups if group.features is None]
        groups.groups = [group for group in groups.groups if group.features is not None]
        again = sorted({*plain["again"], *(group.first for group in unfinished)})
        return cls(
            Settings(**plain["settings"]),
            plain["next"],
            again,
            plain["spent"],
            Counter(plain["counts"]),
            groups,
            plain["not_made"],
            plain["examples"],
        )
