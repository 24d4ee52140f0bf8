"""The report with pictures: one HTML page that needs nothing else.

What a demonstration says, its figures and its pictures, and nothing that is not in its result.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from qcow2crypt.htmlpage import page
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Picture, Pixels, Result
from qcow2crypt.lab.png import png
from qcow2crypt.lab.session import Shown
from qcow2crypt.units import BLOCK_SIZE

_STYLE = """
body { max-width: 62rem }
nav ul { columns: 20rem auto; padding-left: 1.2rem }
a { color: var(--k0) }
section.one { border-top: 1px solid var(--rule); margin-top: 2.5rem }
section.one:first-of-type { border-top: 0; margin-top: 0 }
.pictures { display: grid; gap: 1.4rem; align-items: end; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)) }
.pixels { display: block; width: 100%; max-width: 24rem; height: auto; image-rendering: pixelated;
  border: 1px solid var(--rule); box-sizing: border-box }
figcaption { font-size: .85em }
.bytes { grid-column: 1 / -1 }
pre { margin: 0; padding: .6rem .8rem; background: var(--card); overflow-x: auto; line-height: 1.35;
  font: clamp(.42rem, 2vw, .9rem)/1.4 ui-monospace, monospace }
pre.line { font-size: .85em; white-space: pre-wrap; overflow-wrap: anywhere }
pre i { color: var(--soft); font-style: normal }
pre b, .legend b { color: var(--k1); text-decoration: underline }
pre mark, .legend mark { background: var(--k1); color: var(--paper); font-weight: 700 }
.claims { list-style: none; padding: 0 }
.claims li { display: grid; grid-template-columns: 9.5rem 1fr; gap: .1rem 1rem; padding: .45rem 0;
  border-bottom: 1px solid var(--rule); break-inside: avoid }
.claims b { font-variant-numeric: tabular-nums; text-align: right; color: var(--k2) }
.claims .fails b { color: var(--k1) }
.claims small { display: block; color: var(--soft) }
@media (max-width: 34rem) { .claims li { grid-template-columns: 1fr }
  .claims b { text-align: left } }
"""


def report(shown: Sequence[Shown]) -> str:
    """The whole page."""
    title = shown[0].demonstration.title if len(shown) == 1 else "The flaws, shown"
    return page(f"qcow2crypt lab: {title}", _STYLE, _body(shown), images=True)


def _body(shown: Sequence[Shown]) -> Iterator[str]:
    if len(shown) > 1:
        yield "<h1>What is wrong with the AES encryption of old qcow2 images</h1>"
        yield (
            '<p class="soft">Each flaw was shown on an image that was made for it. Every figure '
            "was counted in this run.</p>"
        )
        yield "<nav><ul>"
        for one in shown:
            name, title = one.demonstration.name, one.demonstration.title
            yield f'<li><a href="#{escape(name)}">{escape(title)}</a></li>'
        yield "</ul></nav>"
    head = "h1" if len(shown) == 1 else "h2"
    for one in shown:
        yield from _section(one, head)


def _section(shown: Shown, head: str) -> Iterator[str]:
    demonstration, result = shown
    yield f'<section class="one" id="{escape(demonstration.name)}">'
    yield f"<{head}>{escape(demonstration.title)}</{head}>"
    yield f'<div class="answer"><p>{escape(demonstration.claim)}</p>'
    yield f"<p>{escape(verdict(result))}</p></div>"
    yield from _paragraphs(demonstration.story)
    if result.pictures:
        yield '<div class="pictures">'
        for picture in result.pictures:
            yield from _figure(picture)
        yield "</div>"
    yield "<h3>Figures of this run</h3>"
    yield from _claims(claim for claim in result.claims if claim.side == "flaw")
    yield "<h3>How others do it, by the same measurement</h3>"
    yield from _claims(claim for claim in result.claims if claim.side == "contrast")
    yield from _paragraphs(demonstration.answer)
    for line in result.not_run:
        yield f'<p class="soft">Not run: {escape(line)}.</p>'
    yield "<h3>To try</h3>"
    yield (
        f"<p>In a folder with the files, which <code>qcow2crypt lab {escape(demonstration.name)} "
        "--keep FOLDER</code> makes:</p><ul>"
    )
    for name, about in result.files:
        yield f"<li><code>{escape(name)}</code> {escape(about)}</li>"
    yield "</ul>"
    for command in result.commands:
        yield f'<p class="soft">{escape(command.shows)}</p>'
        yield f'<pre class="line">{escape(command.line)}</pre>'
    yield "<h3>Sources</h3><ul>"
    for source in demonstration.sources:
        yield (
            f'<li><a rel="noreferrer" href="{escape(source.url)}">{escape(source.title)}</a></li>'
        )
    yield "</ul></section>"


def verdict(result: Result) -> str:
    """One sentence on all figures."""
    count = len(result.claims)
    failed = [claim.name for claim in result.claims if not claim.holds]
    if not failed:
        return f"Shown: all {count} figures of this run are what the rule says."
    return f"NOT SHOWN: {len(failed)} of {count} figures are not what the rule says: " + ", ".join(
        failed
    )


def _paragraphs(texts: Sequence[str]) -> Iterator[str]:
    return (f"<p>{escape(text)}</p>" for text in texts)


def _claims(claims: Iterator[Claim]) -> Iterator[str]:
    yield '<ul class="claims">'
    for claim in claims:
        fails = "" if claim.holds else ' class="fails"'
        missed = "" if claim.holds else "DOES NOT HOLD: "
        by = "by QEMU; " if claim.by == QEMU else ""
        yield (
            f'<li{fails}><b data-figure="{escape(claim.name)}">{escape(claim.told)}</b>'
            f"<span>{escape(claim.sentence)}"
            f"<small>{by}{missed}{escape(claim.expected)}</small></span></li>"
        )
    yield "</ul>"


def _figure(picture: Picture) -> Iterator[str]:
    kind = "bytes" if isinstance(picture, ByteMap) else "seen"
    yield f'<figure class="{kind}"><h3>{escape(picture.title)}</h3>'
    if isinstance(picture, Pixels):
        data = base64.b64encode(png(picture.width, picture.cells, picture.palette)).decode()
        about = escape(f"{picture.title}: {picture.about}")
        height = len(picture.cells) // picture.width
        yield (
            f'<img class="pixels" width="{picture.width}" height="{height}" alt="{about}" '
            f'src="data:image/png;base64,{data}"/>'
        )
        yield f"<figcaption>{escape(picture.about)}</figcaption></figure>"
        return
    rows = "\n".join(_rows(picture))
    yield f"<pre>{rows}</pre>"
    legend = ", ".join(_marked(mark, words) for mark, words in picture.legend.items())
    about = escape(picture.about) + "." * bool(legend)
    yield f'<figcaption>{about} <span class="legend">{legend}</span></figcaption></figure>'


def _rows(picture: ByteMap) -> Iterator[str]:
    """A row for each block: its number, hexadecimal and text."""
    for at in range(0, len(picture.data), BLOCK_SIZE):
        data = picture.data[at : at + BLOCK_SIZE]
        places = list(zip(data, picture.marks[at : at + BLOCK_SIZE], strict=True))
        digits = " ".join(_runs([(f"{byte:02x}", mark) for byte, mark in places], " "))
        text = "".join(_runs([(_letter(byte), mark) for byte, mark in places], ""))
        gap = "   " * (BLOCK_SIZE - len(data))
        yield f"<i>{at // BLOCK_SIZE:2}</i>  {digits}{gap}  {text}"


def _runs(items: list[tuple[str, str]], between: str) -> Iterator[str]:
    """Neighbours with the same mark in one element."""
    for mark, group in groupby(items, key=lambda item: item[1]):
        yield _marked(mark, between.join(word for word, _ in group))


def _marked(mark: str, text: str) -> str:
    tag = {"x": "b", "!": "mark"}.get(mark)
    return escape(text) if tag is None else f"<{tag}>{escape(text)}</{tag}>"


def _letter(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else "\u00b7"
