"""What a check finds: leaks, corruptions and errors of the check itself, with their numbers.

Knows nothing of files.  The numbers are those of ``qemu-img check``; each finding is a line too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["leak", "corruption", "error"]
Report: TypeAlias = Callable[["Finding"], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.  ``times``: how often it counts (a shared table is told once).

    ``repaired`` says that it is, or is about to be, put right.
    """

    kind: Kind
    text: str
    times: int = 1
    repaired: bool = False

    def __str__(self) -> str:
        words = {"leak": "Leaked", "corruption": "ERROR", "error": "ERROR"}
        word = "Repairing" if self.repaired else words[self.kind]
        return f"{word} {self.text}" + (f" ({self.times} times)" if self.times > 1 else "")


class Findings:
    """The numbers so far, and where the lines go."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.leaks = self.corruptions = self.errors = 0
        self.corruptions_fixed = 0

    def leak(self, text: str) -> None:
        """A cluster that is counted more often than it is used."""
        self.leaks += 1
        self._report(Finding("leak", text))

    def corruption(self, text: str, times: int = 1, *, repaired: bool = False) -> None:
        """Something that makes data wrong, or may make it wrong when the image is written."""
        if repaired:
            self.corruptions_fixed += times
        else:
            self.corruptions += times
        self._report(Finding("corruption", text, times, repaired))

    def error(self, text: str, times: int = 1) -> None:
        """Something that keeps a part of the image from being checked."""
        self.errors += times
        self._report(Finding("error", text, times))


def silent(finding: Finding) -> None:
    """A report that goes nowhere: for who wants the numbers alone."""
    del finding
