"""One qemu-io that is given many commands, and told to say when it has come to certain places.

Its commands stand in a file, which is its standard input: on a pipe that stays open it waits for
more while commands stand in its buffer.  A command that prints one line is the mark.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from qcow2crypt.bench.programs import started
from qcow2crypt.errors import BenchError

MARK = "length"
"""The command that is a mark: the length of the disk, one line."""

_LENGTH = re.compile(rb"[0-9.]+ ([KMGTPE]iB|bytes)")
_PROMPT = b"qemu-io> "
T = TypeVar("T")


def _now(pid: int) -> float:
    del pid
    return time.perf_counter()


def marks(
    command: Sequence[str],
    script: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[float]:
    """The time at which each MARK in ``script`` was answered, in seconds of ``perf_counter``."""
    return at_marks(command, script, _now, folder, environment)


def at_marks(
    command: Sequence[str],
    script: Sequence[str],
    look: Callable[[int], T],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[T]:
    """What ``look``, which is given the id of the process, tells when each MARK is answered.

    Raises BenchError where the program cannot be run, fails, or says anything else.  The program
    has ended when this ends, in whatever way.
    """
    found: list[T] = []
    with tempfile.TemporaryFile() as file:
        file.write("".join(f"{line}\n" for line in script).encode())
        file.seek(0)
        with started(command, file, folder, environment, text=False) as process:
            for line in process.stdout or ():
                said = line.replace(_PROMPT, b"").strip()
                if _LENGTH.fullmatch(said):
                    found.append(look(process.pid))
                elif said:
                    raise BenchError(f"{command[0]} says: {said.decode(errors='replace')}")
    if process.returncode or len(found) != script.count(MARK):
        raise BenchError(f"{command[0]} ended early, with {process.returncode}")
    return found
