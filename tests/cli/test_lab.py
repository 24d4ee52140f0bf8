"""lab: its list, its options, where its results go, and its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from cli.commandline import Run
from cli.schemas import schema
from rich.console import Console

import qcow2crypt
from qcow2crypt.cli.output_lab import lab_lines, paint_on, painter
from qcow2crypt.lab import DEMONSTRATIONS, session
from qcow2crypt.lab.base import Pixels
from qcow2crypt.lab.modes import PASSPHRASE
from qcow2crypt.lab.qemu import Qemu

ALL = ("lab", "all", "--no-qemu")


def test_the_list(run: Run) -> None:
    done = run("lab")
    assert (done.status, done.err) == (0, "")
    for name, one in DEMONSTRATIONS.items():
        assert f"  {name:<11}{one.title}\n" in done.out


def test_all_of_them(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(*ALL, "--html", page, "--json", tmp_path / "figures.json")
    assert (done.status, done.err) == (0, "")
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    jsonschema.validate(figures, schema("lab"))
    assert figures["holds"] is True
    assert figures["qemu"] is None
    assert [one["name"] for one in figures["demonstrations"]] == list(DEMONSTRATIONS)
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    for one in figures["demonstrations"]:
        assert one["title"] in done.out
    assert done.out.count("Shown: all") == len(DEMONSTRATIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "page.html"]


def test_json_on_standard_output_stands_alone(run: Run) -> None:
    done = run("lab", "move", "--no-qemu", "--json", "-")
    found = json.loads(done.out)
    jsonschema.validate(found, schema("lab"))
    (one,) = found["demonstrations"]
    (xor,) = [figure for figure in one["figures"] if figure["name"] == "xor"]
    assert (xor["measured"], xor["rule"], xor["holds"]) == ("0x0c", "0x0c", True)
    assert (done.status, done.err) == (0, "")


def test_files_that_are_kept(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    done = run("lab", "bitflip", "--no-qemu", "--keep", folder)
    assert (done.status, done.err) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"record.qcow2", "flipped.qcow2"}
    with qcow2crypt.open(folder / "flipped.qcow2", secret=PASSPHRASE) as disk:
        assert b"grade: A" in disk.pread(512, 40 * 512)
    again = run("lab", "bitflip", "--no-qemu", "--keep", folder)
    assert (again.status, again.out) == (1, "")
    assert "is not empty: name a folder that is new or empty" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "there is no demonstration 'nothing': truncated, wrong, salt"),
        (["move", "salt"], "lab takes one name, or all"),
        (["--html", "page.html"], "--html needs the name of a demonstration, or all"),
        (["move", "--html", "no/such/folder"], "'no/such/folder' cannot be written"),
        (["salt", "--image", "x"], "--image is for 'lab watermark' and 'lab snapshot'"),
        (["snapshot", "--image", "x", "--keep", "y"], "--keep and --image exclude each other"),
        (["watermark", "--image", "no-such-file"], "cannot open 'no-such-file'"),
    ],
)
def test_what_cannot_be(run: Run, words: list[str], message: str) -> None:
    done = run("lab", *words)
    assert (done.status, done.out) == (1, "")
    assert message in done.err


def test_a_figure_that_is_wrong_is_told_by_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcow2crypt.lab.move.SIGNS", 13)
    done = run("lab", "move", "--no-qemu")
    assert done.status == 1
    assert "DOES NOT HOLD: the rule says 0x0d" in done.out
    assert "NOT SHOWN: 2 of 5 figures" in done.out


def test_without_qemu_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert Qemu.find() is None
    done = run("lab", "picture")
    assert done.status == 0
    assert "Not run: what needs qemu-img" in done.out


def test_a_given_image(run: Run, tmp_path: Path) -> None:
    run("lab", "watermark", "--no-qemu", "--keep", tmp_path / "w")
    run("lab", "snapshot", "--no-qemu", "--keep", tmp_path / "s")
    marked, stages = tmp_path / "w" / "watermark.qcow2", tmp_path / "s" / "snapshot.qcow2"
    done = run("lab", "watermark", "--image", marked)
    assert (done.status, done.err) == (0, "")
    assert "256 sectors begin with a ciphertext block" in done.out
    assert "that is a watermark" in done.out
    assert "no mark" in run("lab", "watermark", "--image", stages).out
    done = run("lab", "snapshot", "--image", stages)
    assert "568 of these have equal ciphertext" in done.out
    assert "328 differ: the guest changed them. Sectors 140-147, 171-180" in done.out
    assert "there is nothing to compare" in run("lab", "snapshot", "--image", marked).out


@pytest.mark.parametrize("name", ["watermark", "snapshot"])
def test_a_given_image_as_json(run: Run, name: str, tmp_path: Path) -> None:
    run("lab", name, "--no-qemu", "--keep", tmp_path / "files")
    image = tmp_path / "files" / f"{name}.qcow2"
    found = json.loads(run("lab", name, "--image", image, "--json", "-").out)
    jsonschema.validate(found, schema("lab-image"))
    assert found["image"] == str(image)


def test_a_picture_on_a_terminal() -> None:
    """Two cells in a letter: ink above, paper below; three rows leave half a letter."""
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    picture = Pixels("t", "a", 2, bytes([0, 1, 1, 1, 0, 0]), ((1, 2, 3), (4, 5, 6)))
    first, second = paint_on(console)(picture)
    seen = re.findall(r"38;2;(\d+;\d+;\d+);48;2;(\d+;\d+;\d+)m(.)", first)
    assert seen == [("1;2;3", "4;5;6", "\u2580"), ("4;5;6", "4;5;6", "\u2580")]
    assert re.findall(r"38;2;(\d+;\d+;\d+);48;2;(\d+;\d+;\d+)m", second) == [("1;2;3",) * 2] * 2


def test_pictures_are_drawn_where_there_is_room(tmp_path: Path) -> None:
    (shown,) = session.show(["picture"], keep=tmp_path)
    drawn: list[str] = []

    def paint(picture: Pixels) -> list[str]:
        drawn.append(picture.title)
        return [f"<{picture.title}>"]

    lines = list(lab_lines([shown], 100, paint))
    assert drawn == [picture.title for picture in shown.result.pictures]
    assert [line for line in lines if line.startswith("<")] == [f"<{title}>" for title in drawn]
    assert not [line for line in lab_lines([shown], 95, paint) if line.startswith("<")]


def test_no_picture_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painter() is not None
    monkeypatch.setenv("NO_COLOR", "1")
    assert painter() is None


@pytest.mark.parametrize("width", [60, 80, 120])
def test_only_lines_to_copy_are_wider_than_the_terminal(width: int) -> None:
    found = lab_lines(session.show(["bitflip", "wrong"]), width)
    for line in found:
        copied = "https://" in line or "--image-opts" in line or "--keep" in line
        hexadecimal = line[:6].strip().isdigit()
        assert len(line) <= width or copied or hexadecimal or "^" in line
