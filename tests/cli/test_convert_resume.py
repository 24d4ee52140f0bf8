"""``convert --resume``: killed at random moments until done, and what a person is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commandline import HOME, run_program

MIB = 1 << 20
OFTEN = (
    "import sys; from qcow2crypt.tasks import resuming; resuming.INTERVAL = 1 << 20;"
    "from qcow2crypt.cli import main; sys.exit(main())"
)
AES = ["-O", "qcow2", "-o", "encrypt.format=aes,cluster_size=4k"]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """24 MiB with zeros in between."""
    path = tmp_path / "disk.raw"
    rng = random.Random(9)
    path.write_bytes(b"".join(rng.randbytes(3 * MIB) + bytes(MIB) for _ in range(6)))
    return path


KINDS = {
    "AES": [*AES, "--target-secret-file", "KEY"],
    "compressed": ["-O", "qcow2", "-c"],
    "over a backing file": ["-O", "qcow2", "-B", "base.raw", "-F", "raw"],
    "into an image that exists": ["-n", "-O", "qcow2", "--target-secret-file", "KEY"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_until_done(kind: str, disk: Path, key: Path, tmp_path: Path) -> None:
    target, usual = tmp_path / "target", tmp_path / "usual"
    base = bytearray(disk.read_bytes())
    base[5 * MIB : 15 * MIB] = random.Random(2).randbytes(10 * MIB)
    (tmp_path / "base.raw").write_bytes(base)
    words: list[str | Path] = [key if word == "KEY" else word for word in KINDS[kind]]
    words += ["-f", "raw", disk]
    old = b""
    if "-n" in words:
        secret: list[str | Path] = ["--secret-file", key]
        made = run_program("create", "-f", *AES[1:], *secret, target, "30M", cwd=tmp_path)
        assert made.status == 0, made.err
        old = target.read_bytes()
        usual.write_bytes(old)
    assert run_program("convert", "-q", *words, usual, cwd=tmp_path).status == 0
    rng = random.Random(os.urandom(8))
    program = [sys.executable, "-c", OFTEN, "convert", "--progress=json", "--resume"]
    # Slow enough that a signal hits the middle, and that each run comes further.
    slow: list[str | Path] = ["-r", "20M", *words, target]
    kills = 0
    for attempt in range(30):
        with subprocess.Popen(
            [*program, *(words if attempt > 8 else slow)] + ([target] if attempt > 8 else []),
            env={**os.environ, "PYTHONPATH": str(HOME)},
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()  # it has begun
            try:
                process.wait(rng.random() / 3)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.stderr.read()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        # Only a kill between the last rename and the end finds a target: it is whole then.
        found = target.read_bytes() if target.exists() else b""
        assert found in (old, usual.read_bytes())
    else:
        done = run_program("convert", "-q", "--resume", *words, target, cwd=tmp_path)
        assert done.status == 0
    assert kills
    assert target.read_bytes() == usual.read_bytes()
    assert not [path for path in tmp_path.iterdir() if "qcow2crypt" in path.name]


def test_a_target_with_snapshots(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert run_program("create", "-f", "qcow2", target, "24M").status == 0
    assert run_program("snapshot", "-c", "one", target).status == 0
    done = run_program("convert", "--resume", "-n", "-O", "qcow2", "-f", "raw", disk, target)
    assert done.status == 1
    assert "Leave out --resume" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "target"]


def test_what_is_left_is_named(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    words: list[str | Path] = ["convert", "-f", "raw", disk, target]
    with subprocess.Popen(
        [sys.executable, "-c", OFTEN, *words, "--resume", "--progress=json", "-r", "20M"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while '"done": 0' in process.stderr.readline():
            pass
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 130
    part = tmp_path / ".target.resume.qcow2crypt-part"
    journal = tmp_path / ".target.resume.qcow2crypt-journal"
    assert str(part) in told
    assert str(journal) in told
    done = run_program(*words)
    assert done.status == 0
    assert str(part) in done.err
    assert "--resume" in done.err
    target.unlink()
    done = run_program(*words, "--resume", "--verify")
    assert (done.status, done.err) == (0, "")
    assert target.read_bytes() == disk.read_bytes()
    assert not part.exists()
    assert not journal.exists()


@pytest.mark.parametrize(
    "words",
    [["--salvage", "d", "t"], ["-", "t"], ["d", "-"], ["-U", "d", "t"]],
    ids=" ".join,
)
def test_what_makes_no_sense(words: list[str], tmp_path: Path) -> None:
    for name in "dt":
        (tmp_path / name).write_bytes(bytes(512))
    done = run_program("convert", "--resume", *words, cwd=tmp_path)
    assert done.status == 1
    assert "--resume" in done.err


def test_a_source_that_changes(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    words: list[str | Path] = ["convert", "-f", "raw", disk, target]
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", *words, "-r", "30M", "--progress=json"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        os.utime(disk)
        assert "changed while it was read" in process.stderr.read()
        assert process.wait(60) == 1
    assert not target.exists()
