"""The answer of ``explain`` for people: on a terminal in colour, elsewhere without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.explaining.lines import Line, Part
from qcow2crypt.explaining.wording import sections

if TYPE_CHECKING:
    from qcow2crypt.explaining.facts import Explanation

_STYLES = {
    "title": "bold underline",
    "label": "dim",
    "number": "bold",
    "cipher": "red",
    "iv": "bold magenta",
    "key": "bold yellow",
    "plain": "green",
    "mark": "bold cyan",
}


def print_explanation(found: Explanation, console: Console) -> None:
    """Print it.  Raises CommandError when standard output cannot be written."""
    if sys.stdout is not None and sys.stdout.isatty():
        try:
            _print_coloured(found)
        except ImportError:
            pass  # the same without colours
        else:
            return
    for line in _lines(found):
        console.out("".join(printable(part.text) for part in line).rstrip())


def _lines(found: Explanation) -> Iterator[Line]:
    yield (Part(f"{found.image}: {found.asked}", "number"),)
    for section in sections(found):
        yield ()
        yield (Part(section.title, "title"),)
        yield from section.lines


def _print_coloured(found: Explanation) -> None:
    from rich.console import Console as RichConsole
    from rich.text import Text

    out = RichConsole(highlight=False)
    for line in _lines(found):
        text = Text()
        for part in line:
            text.append(printable(part.text), _STYLES.get(part.style, ""))
        out.print(text, soft_wrap=True)
