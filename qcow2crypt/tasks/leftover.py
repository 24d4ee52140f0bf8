"""The files that a conversion leaves after a sudden end: their names, and which are there.

Kept apart, so that who only asks loads nothing of how a conversion goes on.
"""

from __future__ import annotations

import contextlib
import os
import re

from qcow2crypt.image.filecalls import claim
from qcow2crypt.targetfile import KEPT, PART_SUFFIX, short_name

JOURNAL_SUFFIX = ".qcow2crypt-journal"


def journal_of(part: str) -> str:
    """The name of the journal of the unfinished file ``part``."""
    return part.removesuffix(PART_SUFFIX) + JOURNAL_SUFFIX


def left_over(target: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files that an unfinished conversion to ``target`` left, to go on with or to delete."""
    folder, name = os.path.split(os.path.realpath(os.fsdecode(target)))
    part = os.path.join(folder, f".{short_name(name)}.{KEPT}{PART_SUFFIX}")
    return tuple(path for path in (part, journal_of(part)) if os.path.exists(path))


def abandoned(target: str | os.PathLike[str]) -> tuple[str, ...]:
    """Unfinished files of ``target`` of no use: who wrote them was killed, and cannot go on."""
    folder, name = os.path.split(os.path.realpath(os.fsdecode(target)))
    start, end = re.escape(f".{short_name(name)}."), re.escape(PART_SUFFIX)
    pattern = re.compile(f"{start}[0-9a-f]{{8}}{end}")
    found = []
    with contextlib.suppress(OSError):
        found = sorted(one for one in os.listdir(folder) if pattern.fullmatch(one))
    return tuple(path for one in found if _is_free(path := os.path.join(folder, one)))


def _is_free(path: str) -> bool:
    """Whether no process that writes to this file is alive."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return claim(fd) is True
    finally:
        os.close(fd)
