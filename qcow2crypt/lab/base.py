"""What a demonstration is: its words, and what a run of it gives.  Pure data.

A claim stands beside its figure: what was measured, what the rule of the cipher says it must be,
and what it would be by chance.  ``holds`` compares the first two; nothing else decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from qcow2crypt.lab.desk import Desk

Side: TypeAlias = Literal["flaw", "contrast"]
US = "qcow2crypt"
QEMU = "QEMU"
Figure: TypeAlias = "int | str"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence and its figure.

    ``name``      a word for programs, of its own in the demonstration
    ``sentence``  what was counted
    ``measured``  what the run gave, of ``of`` if that is not None
    ``rule``      what it must be
    ``chance``    what it would be if nothing showed, in words; "" where that means nothing
    ``tolerance`` how far from ``rule`` a figure may be in which chance has a part
    ``side``      ``flaw``: legacy AES; ``contrast``: the same measurement elsewhere
    ``by``        who gave the bytes that were counted: this package, or QEMU's programs
    """

    name: str
    sentence: str
    measured: Figure
    rule: Figure
    of: int | None = None
    chance: str = ""
    tolerance: int = 0
    side: Side = "flaw"
    by: str = US

    @property
    def holds(self) -> bool:
        """Whether the figure is what the rule says."""
        if isinstance(self.measured, str) or isinstance(self.rule, str):
            return self.measured == self.rule
        return abs(self.measured - self.rule) <= self.tolerance

    @property
    def told(self) -> str:
        """The figure for people.

        >>> Claim("equal", "equal sectors", 12345, 12345, of=20000).told
        '12,345 of 20,000'
        """
        return _text(self.measured) + ("" if self.of is None else f" of {self.of:,}")

    @property
    def expected(self) -> str:
        """What the rule says and what chance would give, for people."""
        near = "about " if self.tolerance else ""
        chance = f"; by chance: {self.chance}" if self.chance else ""
        return f"the rule says {near}{_text(self.rule)}{chance}"


def _text(figure: Figure) -> str:
    return figure if isinstance(figure, str) else f"{figure:,}"


class Source(NamedTuple):
    """Where something is told."""

    title: str
    url: str


class Command(NamedTuple):
    """A line to try in the folder with the files, and what it shows."""

    line: str
    shows: str


class Pixels(NamedTuple):
    """A picture: ``cells`` are numbers of colours (red, green, blue), ``width`` in a row."""

    title: str
    about: str
    width: int
    cells: bytes
    palette: tuple[tuple[int, int, int], ...]


CHANGED = {"x": "another byte than before", "!": "the byte that was aimed at"}


class ByteMap(NamedTuple):
    """Bytes as a table, 16 in a row.  ``marks`` has ``.`` or a key of ``legend`` for each."""

    title: str
    about: str
    data: bytes
    marks: str
    legend: Mapping[str, str] = CHANGED


Picture: TypeAlias = "Pixels | ByteMap"


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave.

    ``files``    what lies in the folder, by name, and what it is
    ``not_run``  what could not be measured here, and why
    """

    claims: tuple[Claim, ...]
    pictures: tuple[Picture, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    commands: tuple[Command, ...] = ()
    not_run: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(claim.holds for claim in self.claims)


def paragraphs(text: str) -> tuple[str, ...]:
    r"""A text in paragraphs with empty lines between them, each as one line.

    >>> paragraphs("one\n    goes on\n\n    two")
    ('one goes on', 'two')
    """
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n"))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One flaw.  ``story`` and ``answer`` are paragraphs; ``answer`` says how others do better."""

    name: str
    title: str
    claim: str
    story: tuple[str, ...]
    answer: tuple[str, ...]
    sources: tuple[Source, ...]
    run: Callable[[Desk], Result]
