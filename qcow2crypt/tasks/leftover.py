"""The files that a conversion keeps, to go on after a sudden end: their names, and which are there.

Kept apart, so that who only asks loads nothing of how a conversion goes on.
"""

from __future__ import annotations

import os

from qcow2crypt.targetfile import KEPT, PART_SUFFIX

JOURNAL_SUFFIX = ".qcow2crypt-journal"


def journal_of(part: str) -> str:
    """The name of the journal of the unfinished file ``part``."""
    return part.removesuffix(PART_SUFFIX) + JOURNAL_SUFFIX


def left_over(target: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files that an unfinished conversion to ``target`` left, to go on with or to delete."""
    folder, name = os.path.split(os.path.realpath(os.fsdecode(target)))
    part = os.path.join(folder, f".{name}.{KEPT}{PART_SUFFIX}")
    return tuple(path for path in (part, journal_of(part)) if os.path.exists(path))
