"""The report: one HTML page that needs nothing else, from the document alone."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from qcow2crypt.bench.plots import plots
from qcow2crypt.bench.svg import Plot, draw, swatch
from qcow2crypt.bench.table import LEGEND, Cell, Document, Table, facts, tables
from qcow2crypt.htmlpage import page

_STYLE = """
.plots { display: grid; gap: 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)) }
figure > svg { display: block; width: 100%; height: auto }
figcaption { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85em }
figcaption span { white-space: nowrap }
.swatch { width: 2.8em; height: .9em; vertical-align: middle; margin-right: .35em }
svg text { fill: var(--ink); font: 15px system-ui, sans-serif }
svg .axis { fill: var(--soft) }
svg path { fill: none; stroke: currentColor; stroke-width: 2.5 }
svg .grid { stroke: var(--rule); stroke-width: 1 }
svg .whisker { stroke-width: 1.5; opacity: .75 }
svg circle, svg rect { fill: currentColor; stroke: currentColor; stroke-width: 2 }
svg .open { fill: var(--paper) }
.c0 { color: var(--k0) } .c1 { color: var(--k1) } .c2 { color: var(--k2) } .c3 { color: var(--k3) }
.c4 { color: var(--k4) } .c5 { color: var(--k5) } .c6 { color: var(--k6) } .c7 { color: var(--k7) }
th, td { padding: .25em .8em; border-bottom: 1px solid var(--rule); text-align: right;
  font-variant-numeric: tabular-nums; vertical-align: bottom }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
"""


def report(document: Document) -> str:
    """The whole page."""
    return page("qcow2crypt bench", _STYLE, _body(document))


def _body(document: Document) -> Iterator[str]:
    yield "<h1>AES-encrypted qcow2: how fast, and does the cluster size matter?</h1>"
    first, *rest = document["answer"]["text"]
    yield f'<section class="answer"><h2>{escape(first["about"])}</h2>'
    yield from _paragraph(first["lines"])
    yield "</section>"
    yield "<h2>Pictures</h2>"
    yield (
        '<p class="soft">Points are medians. Thin bars: with so many rounds the true median is '
        f"there {document['settings']['confidence']:.1%} of the time. Both axes are logarithmic."
        "</p>"
    )
    yield '<div class="plots">'
    for plot in plots(document):
        yield from _figure(plot)
    yield "</div>"
    for paragraph in rest:
        yield f"<section><h2>{escape(paragraph['about'])}</h2>"
        yield from _paragraph(paragraph["lines"])
        yield "</section>"
    yield "<h2>Figures</h2>"
    yield f'<p class="soft">{escape(LEGEND)}</p>'
    for table in tables(document):
        yield from _table(table)
    yield "<h2>Where and how</h2>"
    yield from _facts(document)


def _paragraph(lines: list[str]) -> Iterator[str]:
    yield f"<p>{escape(lines[0])}</p>"
    if len(lines) > 1:
        yield "<ul>"
        yield from (f"<li>{escape(line)}</li>" for line in lines[1:])
        yield "</ul>"


def _figure(plot: Plot) -> Iterator[str]:
    yield f"<figure><h3>{escape(plot.title)}</h3>"
    yield draw(plot)
    names = (f"<span>{swatch(line)}{escape(line.name)}</span>" for line in plot.lines)
    yield f"<figcaption>{''.join(names)}</figcaption></figure>"


def _table(table: Table) -> Iterator[str]:
    yield f"<h3>{escape(table.title)}, {escape(table.unit)}</h3>"
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th>{escape(name)}</th>" for name in table.header)
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield f"<tr>{''.join(map(_cell, row))}</tr>"
    yield "</tbody></table></div>"


def _cell(cell: Cell) -> str:
    known = "" if cell.figure is None else f' data-figure="{cell.figure!r}"'
    return f"<td{known}>{escape(cell.text)}</td>"


def _facts(document: Document) -> Iterator[str]:
    yield '<ul class="facts">'
    for line in facts(document):
        yield f"<li>{escape(line)}</li>"
    yield "</ul>"
