"""The checker of the built site finds what it should, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_site import faults, main

GOOD = """<!doctype html><title>t</title><link rel="canonical" href="https://example.org/">
<link rel="stylesheet" href="style.css"><img src="data:image/png;base64,AA==">
<h1 id="top">x</h1><a href="#top">up</a><a href="other.html#place">on</a>
<a href="https://example.org/">out</a>"""
OTHER = '<h2 id="place">here</h2>'


def site(folder: Path, page: str = GOOD, style: str = "a { color: red }") -> Path:
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "other.html").write_text(OTHER, encoding="utf-8")
    (folder / "style.css").write_text(style, encoding="utf-8")
    return folder


def test_a_good_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(site(tmp_path)) == []
    assert main([str(tmp_path)]) == 0
    assert "2 pages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('<a href="missing.html">x</a>', "missing.html leads nowhere"),
        ('<a href="other.html#nowhere">x</a>', "no such place"),
        ('<a href="#nowhere">x</a>', "no such place"),
        ('<a href="/absolute.html">x</a>', "leads nowhere"),
        ('<a href="file:///etc/passwd">x</a>', "leads nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "from another host"),
        ('<script src="//cdn.example.org/x.js"></script>', "from another host"),
        ('<link rel="preconnect" href="https://example.org">', "from another host"),
        ('<img src="missing.png">', "not there"),
        ('<img srcset="missing.png 2x">', "not there"),
        ("<style>@import 'https://example.org/x.css'</style>", "from another host"),
        ('<p style="background: url(https://example.org/x.png)">', "from another host"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, added: str, said: str) -> None:
    found = faults(site(tmp_path, GOOD + added))
    assert len(found) == 1
    assert said in found[0]
    assert main([str(tmp_path)]) == 1


def test_fonts_from_elsewhere_are_found(tmp_path: Path) -> None:
    style = "@font-face { src: url('https://fonts.example.org/x.woff2') }"
    assert "from another host" in faults(site(tmp_path, style=style))[0]


def test_without_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err
