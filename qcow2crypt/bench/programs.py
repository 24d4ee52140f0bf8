"""Start another program, and see that it never outlives whoever started it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from qcow2crypt.errors import BenchError


@contextmanager
def started(
    words: Sequence[str],
    stdin: int | IO[bytes],
    folder: Path | None,
    environment: Mapping[str, str] | None,
    *,
    text: bool,
) -> Iterator[subprocess.Popen[Any]]:
    """A running program with one pipe for all that it writes.  It has ended at the end.

    After an error, Ctrl-C or a signal it is killed.  (``subprocess`` alone does not wait for it
    after Ctrl-C.)  Raises BenchError where it cannot be run.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the programs that the user has
            words,
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=text,
            errors="replace" if text else None,
        )
    except OSError as error:
        raise BenchError(f"{words[0]} cannot be run: {error.strerror}") from error
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            process.wait()
            raise
