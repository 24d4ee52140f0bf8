"""An explanation as a piece of HTML, for notebooks: the lines of ``wording``, with colours.

Needs nothing else: no script, no font, no file.  The colours have a contrast of 4.3 to 1 on white
and on near black (#111), as a notebook may be either.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from qcow2crypt.explaining.facts import Explanation
from qcow2crypt.explaining.lines import Line
from qcow2crypt.explaining.wording import sections

_COLOURS = {
    "label": "opacity:.75",
    "number": "font-weight:600",
    "cipher": "color:#c95627",
    "iv": "color:#9058f0;font-weight:600",
    "key": "color:#cc497f;font-weight:600",
    "plain": "color:#22886b",
    "mark": "font-weight:700",
    "note": "",
}


def as_html(found: Explanation) -> str:
    """One ``section`` element.  Holds the key only where the explanation does."""
    return "".join(_parts(found))


def _parts(found: Explanation) -> Iterator[str]:
    yield '<section class="qcow2crypt-explain" aria-label="explanation of one byte">'
    yield f"<p><strong>{_shown(found.image)}</strong>: {_shown(found.asked)}</p>"
    for section in sections(found):
        yield f"<h4>{_shown(section.title)}</h4>"
        lines = "\n".join(_line(line) for line in section.lines)
        yield f'<pre style="overflow-x:auto;line-height:1.35">{lines}</pre>'
    yield "</section>"


def _line(line: Line) -> str:
    return "".join(
        f'<span style="{_COLOURS[part.style]}">{_shown(part.text)}</span>'
        if _COLOURS.get(part.style)
        else _shown(part.text)
        for part in line
    )


def _shown(text: str) -> str:
    """Text of a file name or of a hostile image: nothing of it is taken for HTML."""
    visible = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)
    return escape(visible)
