"""A folder for temporary files that is gone at the end, whatever ends the work.

Knows nothing of what lies in it.  ``tempfile.TemporaryDirectory`` leaves its folder behind when a
signal comes just after it was made, or while it is removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder below ``parent``, or where temporary files go.  Raises OSError."""
    folder, owner = "", os.getpid()
    try:
        with signals_later():
            folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        yield Path(folder)
    finally:
        with signals_later():
            if folder and os.getpid() == owner:  # a fork has the name, too
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def signals_later() -> Iterator[None]:
    """Let the signals that end a program wait meanwhile, as far as this thread gets them.

    A program that is started meanwhile lets them wait for ever: it must be killed.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    wanted = {getattr(signal, name) for name in _ENDING}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
