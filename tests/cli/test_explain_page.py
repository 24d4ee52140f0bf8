"""``explain --html``: a page without secrets, or with the key where --show-key says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commandline import Run

import qcow2crypt

IMAGE = Path(qcow2crypt.__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
KEY = b"correct horse ba"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"correct horse battery")
    return path


def test_the_page_needs_no_passphrase_and_holds_none(
    run: Run, tmp_path: Path, secret: Path
) -> None:
    page = tmp_path / "page.html"
    for words in ([], ["--secret-file", secret]):
        outcome = run("explain", "--html", page, *words, IMAGE)
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
        text = page.read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>")
        assert '"key":null' in text
        assert KEY.hex() not in text


def test_the_key_is_in_it_where_that_is_said(run: Run, tmp_path: Path, secret: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--show-key", "--secret-file", secret, "--sector", "3")
    outcome = run("explain", "--html", page, *words, IMAGE)
    assert outcome.status == 0, outcome.err
    text = page.read_text(encoding="utf-8")
    assert f'"key":"{KEY.hex()}"' in text
    assert '"sector":3,' in text
    assert KEY.decode() not in outcome.err + outcome.out


def test_an_image_whose_backing_file_is_gone(run: Run, tmp_path: Path) -> None:
    """The page is about one file, so no other is opened."""
    (tmp_path / "base").write_bytes(bytes(1 << 16))
    options = qcow2crypt.Qcow2Options(encryption="aes", backing_file="base", backing_format="raw")
    qcow2crypt.create(tmp_path / "top", secret="x", options=options)
    (tmp_path / "base").unlink()
    outcome = run("explain", "--html", tmp_path / "page.html", tmp_path / "top")
    assert outcome.status == 0, outcome.err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"backingFile":"base"' in text
    assert '"kind":"backing"' in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json"], "--html and --json exclude each other"),
        (["--output=json"], "--html and --output exclude each other"),
        (["-l", "1"], "--html and -l exclude each other"),
        (["--host-offset", "0"], "--html and --host-offset exclude each other"),
        (["--steps", "--show-key"], "--html and --steps exclude each other"),
        (["--offset", "0", "--sector", "0"], "takes one of --offset and --sector"),
        (["--offset", "24k"], "guest offset 0x6000 is not on the disk"),
        (["--show-key"], "needs a passphrase"),
    ],
)
def test_what_does_not_go_together(
    run: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    outcome = run("explain", "--html", tmp_path / "page.html", *words, IMAGE)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "page.html").exists()


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", "--html", tmp_path / "none" / "page.html", IMAGE)
    assert outcome.status == 1
    assert "none/page.html" in outcome.err
