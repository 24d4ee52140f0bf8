"""bench: its options, where its results go, and that nothing is left when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli.commandline import HOME, Run
from cli.schemas import schema
from support.figures import a_document

from qcow2crypt.bench import run as bench_run
from qcow2crypt.bench import settings, workfolder
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.table import Cell, Table
from qcow2crypt.cli.output_bench import bench_lines, table_lines


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library was asked for, in place of a run."""
    seen: list[Any] = []

    def measure(wanted: Settings, tell: object, directory: Path | None) -> dict[str, Any]:
        seen.append((wanted.name, directory))
        return a_document()

    monkeypatch.setattr(bench_run, "measure", measure)
    return seen


@pytest.mark.parametrize(
    ("words", "name"), [([], "usual"), (["--quick"], "quick"), (["--full"], "full")]
)
def test_how_long(run: Run, asked: list[Any], words: list[str], name: str) -> None:
    done = run("bench", *words, "--directory", "somewhere")
    assert (done.status, done.err) == (0, "")
    assert asked == [(name, Path("somewhere"))]
    assert "Does performance depend on the cluster size?" in done.out
    assert "Conversion: raw to qcow2, a disk of 16 MiB (MB/s)" in done.out


def test_json_on_standard_output_stands_alone(run: Run, asked: list[Any]) -> None:
    done = run("bench", "--json", "-")
    assert json.loads(done.out) == a_document()
    assert (done.status, done.err) == (0, "")


def test_results_go_to_files(run: Run, asked: list[Any], tmp_path: Path) -> None:
    figures, page = tmp_path / "figures.json", tmp_path / "report.html"
    done = run("bench", "--json", figures, "--html", page)
    assert (done.status, done.err) == (0, "")
    found = json.loads(figures.read_text("utf-8"))
    jsonschema.validate(found, schema("bench"))
    assert found == a_document()
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "Random reads" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["disk.qcow2"], "bench takes no file names"),
        (["--quick", "--full"], "exclude each other"),
        (["--json", "no/such/folder"], "'no/such/folder' cannot be written"),
        (["--html", "."], "'.' cannot be written"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(
    run: Run, asked: list[Any], words: list[str], message: str
) -> None:
    done = run("bench", *words)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert asked == []


def test_no_room(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workfolder, "free_room", lambda place: 1 << 20)
    done = run("bench", "--quick", "--directory", tmp_path)
    assert (done.status, done.out) == (1, "")
    assert f"--directory {tmp_path} has 1 MiB free and the files of this run need 329 MiB" in (
        done.err
    )


def test_a_real_run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smallest = replace(
        settings.QUICK,
        seconds=0,
        disk_size=settings.MIB,
        cluster_sizes=(65536,),
        call_sizes=(512,),
        requests=5,
    )
    monkeypatch.setattr(settings, "QUICK", smallest)
    (tmp_path / "files").mkdir()
    words = ("--quick", "--directory", tmp_path / "files", "--json", "-")
    done = run("bench", *words, "--html", tmp_path / "page.html")
    assert (done.status, done.err) == (0, "")
    jsonschema.validate(json.loads(done.out), schema("bench"))
    assert list((tmp_path / "files").iterdir()) == []
    assert (tmp_path / "page.html").stat().st_size > 1000


def stopped(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[bytes, bytes]:
    """What a program said that gets a signal, and one more if it goes on as if there was none.

    Python loses the error of a signal that comes while an object's ``__del__`` begins.
    """
    process.send_signal(number)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_nothing_is_left_when_it_is_stopped(
    tmp_path: Path, number: signal.Signals, pause: float
) -> None:
    """Stopped while it makes its files, and in the middle of its rounds."""
    words = ["-m", "qcow2crypt", "bench", "--quick", "--directory", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while not list(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        out, err = stopped(process, number)
    # Python ends itself by SIGINT if that came in a call of eval: for a shell it is the same.
    by_itself = {-number} if number == signal.SIGINT else set()
    assert process.returncode in {128 + number, *by_itself}, err.decode()
    assert out == b""
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):  # no program of its session is left
        os.killpg(process.pid, 0)


TABLE = Table(
    "title",
    "MB/s",
    ("clusters of", "qcow2crypt AES", "64 KiB", "qemu-img plain"),
    (
        (Cell("512 bytes"), Cell("12 ±1%", 12.0), Cell(""), Cell("7 ±10%", 7.0)),
        (Cell("4 KiB"), Cell("1 ±0%", 1.0), Cell("3 ±2%", 3.0), Cell("5 ±1%", 5.0)),
    ),
)


def test_a_table_in_columns() -> None:
    assert list(table_lines(TABLE, 80)) == [
        "               qcow2crypt          qemu-img",
        "  clusters of         AES  64 KiB     plain",
        "  512 bytes        12 ±1%            7 ±10%",
        "  4 KiB             1 ±0%   3 ±2%     5 ±1%",
    ]


def test_a_table_that_is_too_wide_goes_on_below() -> None:
    lines = list(table_lines(TABLE, 34))
    assert max(map(len, lines)) <= 34
    assert [line.split()[0] for line in lines].count("4") == 2
    assert "".join(lines).count("qcow2crypt") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, bench_lines(a_document(), width))) <= width
