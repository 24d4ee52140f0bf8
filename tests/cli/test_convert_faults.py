"""Ctrl-C and a limit on the size of files, under the program as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.commandline import HOME, run_program

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(24 * MIB))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("rate", ["1", "20M"])
def test_a_signal_leaves_nothing(
    number: int, threads: str, rate: str, disk: Path, tmp_path: Path
) -> None:
    """Also while it waits because of the rate: at one byte a second that is for days."""
    target = tmp_path / "target"
    target.write_bytes(b"old")
    words: list[str | Path] = ["-m", threads, "-r", rate, "-f", "raw", "-O", "qcow2", disk, target]
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", "convert", "-q", *words],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stderr=subprocess.PIPE,
    ) as process:
        while not any(path.stat().st_size for path in tmp_path.glob(".target*")):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "target"]


@pytest.mark.parametrize(
    "words",
    [
        ["-O", "raw"],
        ["-O", "qcow2"],
        ["-O", "qcow2", "-c"],
        ["-O", "raw", "--resume"],
        ["-O", "qcow2", "--resume"],
    ],
    ids=" ".join,
)
def test_a_limit_on_the_size_of_files(words: list[str], disk: Path, tmp_path: Path) -> None:
    resume = "--resume" in words
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9 << 20, 9 << 20));"
        "from qcow2crypt.tasks import resuming; resuming.INTERVAL = 1 << 20;"
        "from qcow2crypt.cli import main; sys.exit(main())"
    )
    line: list[str | Path] = ["convert", *words, "-m", "1", "-f", "raw", disk, tmp_path / "target"]
    done = run_program(*line, code=code)
    assert done.status == 1
    assert "File too large" in done.err
    assert not (tmp_path / "target").exists()
    left = [path for path in tmp_path.iterdir() if path != disk]
    assert len(left) == (2 if resume else 0)
    assert all(str(path) in done.err for path in left)
    if resume:
        assert run_program(*line).status == 0
        back = tmp_path / "back"
        assert run_program("convert", "-f", words[1], tmp_path / "target", back).status == 0
        assert back.read_bytes() == disk.read_bytes()


def test_what_a_kill_leaves_is_named(disk: Path, tmp_path: Path) -> None:
    """While a conversion is at work its file is not; afterwards it is, until it is deleted."""
    words: list[str | Path] = ["convert", "-f", "raw", disk, tmp_path / "target"]
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", *words, "-r", "1"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
    ) as process:
        while not (parts := list(tmp_path.glob(".target*"))) or not parts[0].stat().st_size:
            time.sleep(0.01)
        assert run_program(*words).err == ""
        process.send_signal(signal.SIGKILL)
    done = run_program(*words)
    assert done.status == 0
    assert "killed" in done.err
    assert f"'{parts[0]}'" in done.err
    parts[0].unlink()
    assert run_program(*words).err == ""
