"""``convert SOURCE -``: the raw disk on standard output, and what is refused with it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commandline import HOME, run_program


def command(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "qcow2crypt", "convert", "-q", *words]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HOME)}


def test_the_whole_disk_comes(encrypted: Path, raw: Path, key: Path, tmp_path: Path) -> None:
    words = command("--secret-file", key, encrypted, "-")
    done = subprocess.run(words, check=False, capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == raw.read_bytes()
    assert not list(tmp_path.glob("-"))


def test_several_sources_and_zeros_at_the_end(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1" * 512)
    with two.open("wb") as file:
        file.truncate(3 << 20)
    words = command("-f", "raw", one, two, one, two, "-")
    done = subprocess.run(words, check=False, capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"1" * 512 + bytes(3 << 20)) * 2


@pytest.mark.parametrize(
    "words",
    [["-O", "qcow2"], ["-c"], ["-n"], ["-o", "size=1M"], ["--target-secret-file", "x"]],
    ids=" ".join,
)
def test_options_about_a_file(words: list[str], raw: Path) -> None:
    done = run_program("convert", *words, raw, "-")
    assert (done.status, done.out) == (1, "")
    assert "standard output" in done.err


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (4 << 20))
    with subprocess.Popen(
        command("-f", "raw", source, "-"), stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_nobody_reads(number: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (4 << 20))
    with subprocess.Popen(
        command("-f", "raw", source, "-"), stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == b"x" * 10  # now it waits for room in the pipe
        process.send_signal(number)
        assert process.wait(60) == 128 + number


def test_verify_tells_the_hash(raw: Path, key: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    words: list[str | Path] = ["-O", "qcow2", "-o", "encrypt.format=aes", "--verify"]
    done = run_program("convert", *words, "--target-secret-file", key, "-f", "raw", raw, target)
    assert done.status == 0, done.err
    assert hashlib.sha256(raw.read_bytes()).hexdigest() in done.out
    assert run_program("convert", "--verify", "-n", raw, target).status == 1
