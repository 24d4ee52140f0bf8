"""The page, the pictures and the tables: made from the document alone."""

from __future__ import annotations

import html.parser
import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.figures import a_document, a_run

from qcow2crypt.bench.clock import Taken
from qcow2crypt.bench.plots import plots
from qcow2crypt.bench.report import report
from qcow2crypt.bench.svg import Line, Plot, Point, draw, ticks
from qcow2crypt.bench.table import SPEED, Table, figure, speed_text, tables

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of a made-up run, as it is read from its file."""
    found: dict[str, Any] = json.loads(json.dumps(a_document()))
    return found


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - it is ours


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> ET.Element:
    """The page, parsed as XML: every element is closed, every text escaped."""
    return parsed(report(document))


def numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        return {number for one in value.values() for number in numbers(one)}
    if isinstance(value, list):
        return {number for one in value for number in numbers(one)}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {float(value)} if is_number else set()


class Strict(html.parser.HTMLParser):
    """Names of elements and attributes, as a browser sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_it_needs_nothing_else(document: dict[str, Any]) -> None:
    text = report(document)
    seen = Strict()
    seen.feed(text)
    loading = {"src", "href", "srcset", "data", "action", "xlink:href", "poster", "background"}
    assert not [one for one in seen.attributes if one[1] in loading]
    tags = {tag for tag, _, _ in seen.attributes}
    assert not tags & {"script", "link", "iframe", "object", "img", "embed", "base"}
    assert not re.search(r"url\(|@import|@font-face|<script|<link|<img", text)
    # A namespace is a name: nothing is loaded from it.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_every_figure_is_in_the_document(document: dict[str, Any], page: ET.Element) -> None:
    known = numbers(document)
    cells = [one for one in page.iter("td") if "data-figure" in one.attrib]
    assert len(cells) > 40
    for cell in cells:
        number = float(cell.attrib["data-figure"])
        assert number in known
        shown = float((cell.text or "").partition(" ")[0])
        assert any(shown == pytest.approx(number * unit, rel=0.06) for unit in (1, 1e6))


def test_every_figure_of_the_document_is_shown(document: dict[str, Any], page: ET.Element) -> None:
    shown = {
        float(one.attrib["data-figure"]) for one in page.iter("td") if "data-figure" in one.attrib
    }
    for section in ("cipher", "conversion"):
        assert {row["mb-per-s"] for row in document[section]} <= shown
    for section in ("requests", "start"):
        assert {row["seconds"] for row in document[section]} <= shown


def test_the_words_and_the_circumstances_are_there(
    document: dict[str, Any], page: ET.Element
) -> None:
    text = "".join(page.itertext())
    for paragraph in document["answer"]["text"]:
        for line in (paragraph["about"], *paragraph["lines"]):
            assert line in text
    assert "a <processor> & more, 2 processors" in text
    assert "not measured: cipher: <reference> & co: too slow" in text


def test_every_plot_has_its_points_and_a_legend(document: dict[str, Any], page: ET.Element) -> None:
    figures = list(page.iter("figure"))
    wanted = list(plots(document))
    assert len(figures) == len(wanted) == 6
    for found, plot in zip(figures, wanted, strict=True):
        picture = found.find(f"{SVG}svg")
        assert picture is not None
        titles = [one.text or "" for one in picture.iter(f"{SVG}title")]
        assert len(titles) == sum(len(line.points) for line in plot.lines)
        assert all(title.startswith(tuple(line.name for line in plot.lines)) for title in titles)
        assert len(found.findall("figcaption/span")) == len(plot.lines)


def test_light_dark_and_narrow(document: dict[str, Any]) -> None:
    text = report(document)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    used = set(re.findall(r"var\((--\w+)\)", text))
    light, dark = (set(re.findall(r"(--\w+):", part)) for part in text.split("@media", 1))
    assert used <= light
    assert dark == light


@pytest.mark.parametrize("taken", [Taken(1), a_run(rounds=1)], ids=["nothing", "one round"])
def test_what_is_missing_is_left_out(taken: Taken) -> None:
    text = report(a_document(taken))
    assert parsed(text).tag == "html"


def test_lines_differ_without_colours(document: dict[str, Any]) -> None:
    """Plain, encrypted and without AES instructions: each its dash and its mark."""
    conversion = next(plot for plot in plots(document) if plot.title.startswith("Conversion"))
    dashes = {line.name: line.dash for line in conversion.lines}
    assert dashes["qcow2crypt AES"] == ""
    assert len({dashes[f"qcow2crypt {kind}"] for kind in ("plain", "AES")}) == 2
    assert dashes["qcow2crypt AES, instructions off"] not in {"", dashes["qcow2crypt plain"]}


POINTS = st.builds(
    lambda x, y, low, high: Point(1 << x, y, y / low, y * high, "told"),
    st.integers(9, 21),
    st.floats(1e-3, 1e5),
    st.floats(1, 100),
    st.floats(1, 100),
)


@given(st.lists(st.lists(POINTS, max_size=5), max_size=4))
def test_all_points_lie_in_the_picture(lines: list[list[Point]]) -> None:
    named = [Line(f"<{n}> & co", tuple(own), n, "2 5") for n, own in enumerate(lines)]
    text = draw(Plot("a < b & c", "across", "up", tuple(named)))
    points = sum(map(len, lines))
    assert bool(text) == bool(points)
    if text:
        picture = parsed(text)
        marks = list(picture.iter(f"{SVG}rect"))
        assert len(marks) == points
        for mark in marks:
            assert 0 <= float(mark.attrib["x"]) <= 480
            assert 0 <= float(mark.attrib["y"]) <= 360


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 1, [1, 2, 5, 10]), (0, 4, [1, 10, 100, 1000, 10000])]
)
def test_ticks(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == found


def test_tables_have_a_cell_for_every_heading(document: dict[str, Any]) -> None:
    found: list[Table] = list(tables(document))
    assert [table.title for table in found][2:5] == [
        "Conversion: raw to qcow2, a disk of 16 MiB",
        "Conversion: qcow2 to raw, a disk of 16 MiB",
        "Random reads of 4 KiB",
    ]
    for table in found:
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_a_cell_tells_the_spread() -> None:
    row = {"mb-per-s": 1234.5, "seconds": 0.5, "spread": 0.1}
    assert figure(row, SPEED).text == "1234 ±5%"
    assert figure(row, "microseconds").text == "500000.0 ±5%"
    assert speed_text(9.96) == "10.0"
