"""Lines of text in parts, each with a style: what a terminal and HTML show alike.

Knows nothing of images.  A line is never wider than WIDTH if its value is not.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from textwrap import wrap
from typing import NamedTuple, TypeAlias

from qcow2crypt.units import BLOCK_SIZE

WIDTH = 80
LABEL = 22
"""Columns for the label of a row."""
_VALUE = 12
"""Columns for a value, if it needs no more."""
STYLES = ("label", "number", "cipher", "iv", "key", "plain", "mark", "note")


class Part(NamedTuple):
    """Some text of a line.  ``style`` is "", or one of STYLES."""

    text: str
    style: str = ""


Line: TypeAlias = tuple[Part, ...]


def row(label: str, value: str, says: str = "", style: str = "number") -> Iterator[Line]:
    """One fact: label, value, and what it means, which goes on below if it is long."""
    head = (Part(f"  {label:<{LABEL}}", "label"), Part(value, style))
    gap = "  ".ljust(2 + _VALUE - len(value))
    if not says:
        yield head
    elif len(says) <= WIDTH - 2 - LABEL - len(value) - len(gap):
        yield (*head, Part(f"{gap}{says}"))
    else:
        yield head
        for line in wrap(says, WIDTH - 4 - LABEL):
            yield (Part(" " * (LABEL + 4)), Part(line))


def prose(text: str) -> Iterator[Line]:
    """A paragraph, marked as one of several."""
    for number, line in enumerate(wrap(text, WIDTH - 4)):
        yield (Part("    " if number else "  - "), Part(line, "note"))


def dump(
    data: bytes, marked: int, style: str, only: Container[int] | None = None
) -> Iterator[Line]:
    """Bytes, 16 in a line; ``marked`` is the number of a line that stands out.

    Lines that repeat the one before are left out, and those that are not in ``only``.
    """
    before, folded = b"", False
    last = len(data) - BLOCK_SIZE
    for at in range(0, len(data), BLOCK_SIZE):
        number, piece = at // BLOCK_SIZE, data[at : at + BLOCK_SIZE]
        here = number == marked
        left_out = piece == before and at < last if only is None else number not in only
        if left_out and not here:
            if not folded:
                yield (Part("  *" if only is None else "  ..."),)
            folded = True
            continue
        before, folded = piece, False
        yield (
            Part("> " if here else "  ", "mark"),
            Part(f"{at:03x}  ", "label"),
            Part(piece.hex(" "), style),
            Part(f"  {as_ascii(piece)}"),
        )


def as_ascii(data: bytes) -> str:
    """The bytes as characters, a dot for those that are none."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
