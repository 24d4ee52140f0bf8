"""From a case that shows a difference to a small one that still shows it.

Steps towards less are tried one after the other, the largest first.  A step that still shows the
difference is kept, and all begin again, until none helps or so many cases were tried.  The same
case and the same answers give the same small case.  Knows cases alone.
"""

from __future__ import annotations

from collections.abc import Callable

from qcow2crypt.difftest.smaller import smaller
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.rules import tidy

TRIES = 300
"""So many cases are tried at most."""
TRIES_OF_HANGING = 6
"""The same, where each costs all the time that a program gets."""


def shrink(case: Case, shows: Callable[[Case], bool], tries: int = TRIES) -> Case:
    """The smallest case found for which ``shows`` holds; it holds for ``case``."""
    seen = {case}
    while True:
        for candidate in map(tidy, smaller(case)):
            if candidate in seen:
                continue
            if len(seen) > tries:
                return case
            seen.add(candidate)
            if shows(candidate):
                case = candidate
                break
        else:
            return case
