"""Run another program, and see that it never outlives whoever started it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from qcow2crypt.errors import BenchError
from qcow2crypt.tempfolder import signals_later

LONGEST = 120.0
"""Seconds after which a program is killed."""


def told(
    words: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    longest: float = LONGEST,
) -> str:
    """What a program wrote, all of it.

    After an error, Ctrl-C or a signal it is killed, and has ended.  (``subprocess.run`` does not
    wait for it after Ctrl-C.)  Raises BenchError where it cannot be run, fails or hangs.
    """
    process: subprocess.Popen[str] | None = None
    try:
        with signals_later():  # or one could run on of which nobody knows
            process = subprocess.Popen(  # noqa: S603 - the programs that the user has
                words,
                cwd=folder,
                env=environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        said = process.communicate(timeout=longest)[0]
    except BaseException as error:
        if process is None:
            if isinstance(error, OSError):
                raise BenchError(f"{words[0]} cannot be run: {error.strerror}") from error
            raise
        with process:
            process.kill()
            process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BenchError(f"{words[0]} was not done after {longest:g} seconds") from None
        raise
    if process.returncode:
        raise BenchError(f"{words[0]} failed: {said.strip() or process.returncode}")
    return said
