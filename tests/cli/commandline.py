"""Run the command line: inside this process, or as a program without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import qcow2crypt

HOME = Path(qcow2crypt.__file__).parent.parent
PASSPHRASE = "correct horse"  # shorter than 16 bytes: nothing to warn of


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command line did."""

    status: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Outcome]


def run_program(
    *words: str | bytes | Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: tuple[int, ...] = (),
    code: str | None = None,
) -> Outcome:
    """``python -m qcow2crypt WORDS`` in a session of its own, so that it has no terminal.

    ``code`` is Python to run in place of the module.
    """
    program = ["-m", "qcow2crypt"] if code is None else ["-c", code]
    done = subprocess.run(
        [sys.executable, *program, *words],
        check=False,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(HOME), **(env or {})},
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
        timeout=120,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def disk_bytes(size: int) -> bytes:
    """A guest disk that looks like one: a boot record, data, holes, data at the very end."""
    disk = bytearray(size)
    disk[510:512] = b"\x55\xaa"
    pattern = bytes(range(251))
    for start, length in ((0, 510), (20_000, 70_000), (size // 2, 5_000), (size - 700, 700)):
        run = pattern * (length // len(pattern) + 1)
        disk[start : start + length] = run[:length]
    return bytes(disk)
