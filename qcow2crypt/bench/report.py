"""The report: one HTML page that needs nothing else, from the document alone.

No script, no font, no picture from elsewhere.  It follows the colours of the reader, light or
dark, and the width of the screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from qcow2crypt.bench.plots import plots
from qcow2crypt.bench.svg import Plot, draw, swatch
from qcow2crypt.bench.table import LEGEND, Cell, Document, Table, facts, tables

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #16181d; --soft: #5b6270; --rule: #d5d9e0;
  --card: #f5f6f8; --k0: #0b5cad; --k1: #c2410c; --k2: #047857; --k3: #7c3aed; --k4: #be185d;
  --k5: #0e7490; --k6: #92670a; --k7: #475569 }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #eceef2; --soft: #a7aebb;
  --rule: #3a3f49; --card: #1e2127; --k0: #6cb2ff; --k1: #ff9a5c; --k2: #4ade9f; --k3: #bda4ff;
  --k4: #ff86bd; --k5: #4fd8ee; --k6: #f3c84b; --k7: #c6cfdb } }
body { background: var(--paper); color: var(--ink); margin: 0 auto; max-width: 84rem;
  padding: 1rem clamp(.8rem, 3vw, 2.5rem) 3rem;
  font: clamp(1rem, .9rem + .35vw, 1.2rem)/1.5 system-ui, sans-serif }
h1 { font-size: 1.7em; line-height: 1.2; margin: .5em 0 }
h2 { font-size: 1.25em; margin: 1.8em 0 .5em }
h3 { font-size: 1.05em; margin: 1.2em 0 .3em }
.answer { background: var(--card); border-left: .35rem solid var(--k0);
  padding: .2rem 1.1rem .8rem }
.answer p:first-of-type { font-size: 1.15em; font-weight: 600; margin: .3em 0 }
p.soft, figcaption, .facts { color: var(--soft) }
li { margin: .25em 0 }
.plots { display: grid; gap: 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)) }
figure { margin: 0 }
figure h3 { margin: 0 0 .2em }
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
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9em }
th, td { padding: .25em .8em; border-bottom: 1px solid var(--rule); text-align: right;
  font-variant-numeric: tabular-nums; vertical-align: bottom }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
"""


def report(document: Document) -> str:
    """The whole page."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Document) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield '<head><meta charset="utf-8"/>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    yield "<title>qcow2crypt bench</title>"
    yield f"<style>{_STYLE}</style></head>"
    yield "<body>"
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
    yield "</body></html>"


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
