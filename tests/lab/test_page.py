"""The page: made from results alone, needs nothing else, and what is put into it stays text."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from qcow2crypt.lab.base import ByteMap, Claim, Pixels, Result
from qcow2crypt.lab.page import report
from qcow2crypt.lab.png import png
from qcow2crypt.lab.session import Shown, show


def parsed(text: str) -> ET.Element:
    """As XML: every element is closed, every text escaped."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - it is ours


@pytest.fixture(scope="session")
def text(shown: dict[str, Shown]) -> str:
    return report(list(shown.values()))


def test_every_figure_is_on_the_page_and_no_other(text: str, shown: dict[str, Shown]) -> None:
    page = parsed(text)
    sections = {one.attrib["id"]: one for one in page.iter("section")}
    assert list(sections) == list(shown)
    for name, section in sections.items():
        figures = {
            one.attrib["data-figure"]: one.text
            for one in section.iter("b")
            if "data-figure" in one.attrib
        }
        claims = shown[name].result.claims
        assert figures == {claim.name: claim.told for claim in claims}
        whole = "".join(section.itertext())
        for claim in claims:
            assert claim.sentence in whole
            assert claim.expected in whole
        demonstration = shown[name].demonstration
        for paragraph in (demonstration.claim, *demonstration.story, *demonstration.answer):
            assert paragraph in whole
        for command in shown[name].result.commands:
            assert command.line in whole


def test_it_needs_nothing_else(text: str) -> None:
    page = parsed(text)
    loading = {"src", "srcset", "data", "action", "poster", "background"}
    loaded = [value for one in page.iter() for name, value in one.attrib.items() if name in loading]
    assert loaded
    assert all(value.startswith("data:image/png;base64,") for value in loaded)
    tags = {one.tag for one in page.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"url\(|@import|@font-face|javascript:", text)
    assert not [name for one in page.iter() for name in one.attrib if name.startswith("on")]
    for link in page.iter("a"):
        assert link.attrib["href"].startswith(("https://", "#"))


def test_its_policy_allows_its_own_style_and_nothing_else(text: str) -> None:
    page = parsed(text)
    (meta,) = [one for one in page.iter("meta") if "http-equiv" in one.attrib]
    (style,) = page.iter("style")
    digest = base64.b64encode(hashlib.sha256((style.text or "").encode()).digest()).decode()
    assert meta.attrib["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    )


def test_light_dark_narrow_and_on_paper(text: str) -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert "width=device-width" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    light, dark = (set(re.findall(r"(--\w+):", part)) for part in style.split("@media", 1))
    assert light == dark >= set(re.findall(r"var\((--\w+)\)", style))


def test_every_picture_has_words_for_those_who_do_not_see_it(
    text: str, shown: dict[str, Shown]
) -> None:
    pictures = [one for each in shown.values() for one in each.result.pictures]
    alts = [one.attrib["alt"] for one in parsed(text).iter("img")]
    assert alts == [f"{one.title}: {one.about}" for one in pictures if isinstance(one, Pixels)]
    assert len(alts) >= 9


def test_bytes_are_shown_with_their_marks(shown: dict[str, Shown]) -> None:
    page = parsed(report([shown["bitflip"]]))
    (block,) = [one for one in page.iter("pre") if one.find("mark") is not None]
    assert [one.text for one in block.iter("mark")] == ["41", "A"]
    assert len([one for one in block.iter("b")]) == 2  # noqa: C416 - elements, counted
    assert len("".join(block.itertext()).splitlines()) == 32


def test_what_others_put_in_stays_text(shown: dict[str, Shown]) -> None:
    bad = "</pre><script>alert('x')</script>&amp;\""
    claim = Claim("<b>", bad, bad, bad, chance=bad)
    pictures = (
        ByteMap(bad, bad, bytes(range(60)), "x!." * 20, {"x": bad}),
        Pixels(bad, bad, 2, bytes(4), ((1, 2, 3),)),
    )
    result = Result((claim,), pictures, ((bad, bad),), not_run=(bad,))
    demonstration = replace(shown["move"].demonstration, title=bad, claim=bad, story=(bad,))
    found = report([Shown(demonstration, result)])
    assert "<script" not in found
    assert bad in "".join(parsed(found).itertext())


def test_in_a_notebook_it_is_the_same_page_in_a_frame(shown: dict[str, Shown]) -> None:
    frame = parsed(shown["move"]._repr_html_())
    assert frame.tag == "iframe"
    assert frame.attrib["sandbox"] == ""
    assert frame.attrib["srcdoc"].split() == report([shown["move"]]).split()


def test_a_claim_that_fails_is_seen(shown: dict[str, Shown]) -> None:
    demonstration, result = shown["move"]
    broken = replace(result, claims=(replace(result.claims[0], measured=2), *result.claims[1:]))
    found = report([Shown(demonstration, broken)])
    assert "NOT SHOWN: 1 of" in found
    assert "DOES NOT HOLD: the rule says 1" in found
    assert "NOT SHOWN" not in report([shown["move"]])


def test_a_png_holds_its_cells() -> None:
    """Taken apart by hand: parts with right CRCs, then the rows."""
    cells = bytes([0, 1, 2, 1, 0, 1])
    palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    data = png(3, cells, palette)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    parts, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        assert crc == zlib.crc32(name + body)
        parts[name] = body
        at += 12 + length
    assert parts[b"IHDR"] == struct.pack(">IIBBBBB", 3, 2, 8, 3, 0, 0, 0)
    assert parts[b"PLTE"] == bytes(range(1, 10))
    assert zlib.decompress(parts[b"IDAT"]) == b"\0\0\1\2\0\1\0\1"
    assert list(parts) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]


def test_runs_are_the_same_each_time(shown: dict[str, Shown], tmp_path: Path) -> None:
    """Nothing in our part is random: a lecture shows what the documents show."""
    (again,) = show(["watermark"], keep=tmp_path)
    assert again.result == shown["watermark"].result
