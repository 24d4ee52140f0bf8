"""Progress: what is shown, where and how often."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import jsonschema
import pytest
from cli.commandline import Outcome, Run, run_program
from cli.schemas import schema

from qcow2crypt.cli import progress as module
from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.progress import progress, progress_mode


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def lines(text: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        jsonschema.validate(line, schema("progress"))
    return found


def test_at_most_five_a_second_and_the_first_and_the_last(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with progress("json", "convert") as report:
        for done in range(1001):  # ten seconds
            report(done, 1000)
            clock.now += 0.01
    found = lines(capfd.readouterr().err)
    assert found[0]["done"] == 0
    assert found[-1] == {"phase": "convert", "done": 1000, "total": 1000, "rate": 100, "eta": 0.0}
    assert 45 <= len(found) <= 52
    middle = found[len(found) // 2]
    assert middle["rate"] == 100
    assert middle["eta"] == pytest.approx((1000 - int(str(middle["done"]))) / 100, abs=0.1)


def test_the_last_report_is_shown_after_an_error(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        with progress("json", "convert") as report:
            report(0, 10)
            clock.now += 0.01
            report(3, 10)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert [line["done"] for line in lines(capfd.readouterr().err)] == [0, 3]


def test_plain_text_as_qemu_img_writes_it(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("plain", "convert") as report:
        report(0, 0)
    assert capfd.readouterr().err == "    (100.00/100%)\r\n"


def test_nobody_knows_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    for mode in ("plain", "json"):
        with progress(mode, "convert") as report:
            report(0, None)
            report(3 << 20, None)
            report(4 << 20, 4 << 20)
    plain, rest = capfd.readouterr().err.split("\n", 1)
    assert plain == "    (0 B)\r    (100.00/100%)\r"
    assert [(one["done"], one["total"], one["eta"]) for one in lines(rest)] == [
        (0, None, None),
        (4 << 20, 4 << 20, 0.0),
    ]


def test_none_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("none", "convert") as report:
        report(0, 10)
        report(10, 10)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1 here")
def test_a_signal_asks_for_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with progress("none", "convert") as report:
        report(0, 4)
        os.kill(os.getpid(), signal.SIGUSR1)
        report(1, 4)
        report(2, 4)
    assert capfd.readouterr().err == "    (25.00/100%)\n"
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize(
    ("words", "on_terminal", "mode"),
    [
        ({}, True, "bar"),
        ({}, False, "none"),
        ({"p": [""]}, True, "bar"),
        ({"p": [""]}, False, "plain"),
        ({"p": [""], "quiet": [""]}, True, "none"),
        ({"quiet": [""]}, True, "none"),
        ({"progress": ["none"], "p": [""]}, True, "none"),
        ({"progress": ["bar"]}, False, "plain"),
        ({"progress": ["json"]}, True, "json"),
        ({"progress": ["json"], "quiet": [""]}, False, "json"),
    ],
)
def test_which_form_is_shown(
    words: dict[str, list[str]], on_terminal: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal)
    assert progress_mode(Arguments(words, ())) == mode


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(CommandError, match="json, bar or none"):
        progress_mode(Arguments({"progress": ["xml"]}, ()))


def test_convert_reports_on_standard_error(run: Run, raw: Path, tmp_path: Path) -> None:
    done = run("convert", "--progress=json", raw, tmp_path / "out")
    assert (done.status, done.out) == (0, "")
    found = lines(done.err)
    assert found[0]["done"] == 0
    assert found[-1]["done"] == found[-1]["total"] == raw.stat().st_size
    assert run("convert", "-p", "-q", raw, tmp_path / "out") == Outcome(0, "", "")
    assert run("convert", raw, tmp_path / "out") == Outcome(0, "", "")
    assert run("convert", "-p", raw, tmp_path / "out").err.endswith("(100.00/100%)\r\n")


def test_rich_is_loaded_only_for_a_bar(raw: Path, tmp_path: Path) -> None:
    code = "import sys; from qcow2crypt.cli import main; main(); print('rich' in sys.modules)"
    done = run_program("convert", raw, tmp_path / "out", code=code)
    assert done == Outcome(0, "False\n", "")


def test_what_was_done_before_has_no_speed(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    """A conversion that goes on tells its own rate."""
    with progress("json", "convert") as report:
        for done in (600, 700, 800):
            report(done, 1000)
            clock.now += 1
    found = lines(capfd.readouterr().err)
    assert [(line["rate"], line["eta"]) for line in found] == [(None, None), (100, 3.0), (100, 2.0)]
