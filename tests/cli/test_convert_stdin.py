"""``convert - TARGET``: a raw disk from standard input, a pipe or a file."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.commandline import HOME, Outcome, run_program

from qcow2crypt.testing.witness import QemuImg

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HOME)}


def command(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "qcow2crypt", "convert", "-q", *words]


def from_file(source: Path, *words: str | Path) -> Outcome:
    with source.open("rb") as file:
        done = subprocess.run(
            command(*words), check=False, capture_output=True, stdin=file, env=ENVIRONMENT
        )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """5 MiB and a part of a sector: data, zeros, data."""
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(3 << 20) + bytes(1 << 20) + os.urandom(1 << 20) + b"end")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["-O", "raw"],
        ["-O", "qcow2"],
        ["-O", "qcow2", "-o", "encrypt.format=aes"],
        ["-O", "qcow2", "-o", "cluster_size=4k", "-S", "0"],
        ["-O", "qcow2", "-o", "encrypt.format=aes,cluster_size=512,size=5242883"],
        ["-O", "qcow2", "-o", "preallocation=metadata,size=5242883"],
        ["-O", "qcow2", "-c"],
        ["-O", "raw", "-o", "preallocation=full,size=5242883"],
    ],
    ids=" ".join,
)
def test_a_pipe_a_file_and_a_name_give_the_same_file(
    words: list[str], disk: Path, key: Path, tmp_path: Path
) -> None:
    if "aes" in " ".join(words):
        words = [*words, "--target-secret-file", str(key)]
    named, piped, lent = tmp_path / "named", tmp_path / "piped", tmp_path / "lent"
    assert run_program("convert", "-q", "-f", "raw", *words, disk, named).status == 0
    done = run_program("convert", *words, "--verify", "-", piped, stdin=disk.read_bytes())
    assert (done.status, done.err) == (0, "")
    assert hashlib.sha256(disk.read_bytes().ljust(5243392, b"\0")).hexdigest() in done.out
    assert from_file(disk, *words, "-", lent).status == 0
    assert named.read_bytes() == piped.read_bytes() == lent.read_bytes()


def test_a_file_that_does_not_stand_at_its_start(disk: Path, tmp_path: Path) -> None:
    with disk.open("rb") as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        words = command("-", tmp_path / "target")
        subprocess.run(words, check=True, stdin=file, env=ENVIRONMENT)
    rest = disk.read_bytes()[1000:]
    assert (tmp_path / "target").read_bytes() == rest + bytes(-len(rest) % 512)


@pytest.mark.parametrize("content", [b"", b"x", b"y" * (2 << 20), bytes(5 << 20)], ids=len)
def test_lengths(content: bytes, tmp_path: Path) -> None:
    for words in (["-O", "raw"], ["-O", "qcow2"]):
        target, back = tmp_path / "target", tmp_path / "back"
        assert run_program("convert", *words, "-", target, stdin=content).status == 0
        assert run_program("convert", "-f", words[1], target, back).status == 0
        assert back.read_bytes() == content + bytes(-len(content) % 512)


def test_an_l1_table_that_grows(qemu_img: QemuImg, disk: Path, tmp_path: Path) -> None:
    """With clusters of 512 bytes one cluster of L1 table is enough for 2 MiB."""
    target = tmp_path / "target.qcow2"
    words = ["-O", "qcow2", "-o", "cluster_size=512"]
    done = run_program("convert", *words, "-", target, stdin=disk.read_bytes())
    assert done.status == 0, done.err
    qemu_img.run("check", target)
    qemu_img.run("compare", "-F", "raw", target, disk)


def test_the_size_that_was_said(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for size, words in ((5 << 20, "more than"), (6 << 20, "announced")):
        done = run_program("convert", "-o", f"size={size}", "-", target, stdin=disk.read_bytes())
        assert done.status == 1
        assert words in done.err
        assert not list(tmp_path.glob("*target*"))
    done = run_program("convert", "-o", "preallocation=full", "-", target, stdin=b"x")
    assert done.status == 1
    assert "size" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "qcow2", "-"],
        ["-", "-"],
        ["-l", "snap", "-"],
        ["-n", "-"],
        ["--secret-file", "x", "-"],
        ["-O", "qcow2", "-e", "--target-secret-file", "-", "-"],
        ["-O", "qcow2", "-B", "base", "-F", "raw", "-"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(bytes(512))
    done = run_program("convert", *words, tmp_path / "t", stdin=bytes(512))
    assert done.status == 1
    assert "standard input" in done.err or "pipe" in done.err
    assert (tmp_path / "t").read_bytes() == bytes(512)


def test_nothing_to_do_between_streams() -> None:
    done = run_program("convert", "-", "-", stdin=bytes(512))
    assert (done.status, done.out) == (1, "")
    assert "nothing to convert" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sent", [0, 3 << 20])
def test_a_signal_ends_it_while_nobody_writes(number: int, sent: int, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("-m", "3", "-", tmp_path / "target"),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(os.urandom(sent))
        process.stdin.flush()
        while not list(tmp_path.glob(".target*")):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not list(tmp_path.iterdir())
