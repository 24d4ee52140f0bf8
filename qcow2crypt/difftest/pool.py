"""Workers: processes that answer questions one after the other, and never outlive this one.

They are forks of this process.  They do not get the Ctrl-C of the terminal: who has the pool closes
it, and then they end what they started and are gone.  Knows no cases.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any

from qcow2crypt.errors import DifftestError

_PATIENCE = 5.0
"""Seconds in which a worker that is told to end must be gone."""


class Pool:
    """``count`` workers that run ``serve`` with their end of a pipe.  A context manager."""

    def __init__(self, count: int, serve: Callable[[Connection], None]) -> None:
        try:
            context = multiprocessing.get_context("fork")
        except ValueError:
            raise DifftestError("this system has no fork: difftest needs a Unix") from None
        self._ends: dict[Connection, multiprocessing.process.BaseProcess] = {}
        self._serve = serve
        # What is buffered would be written again by each of them.
        sys.stdout.flush()
        sys.stderr.flush()
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._work, args=(ours, theirs), daemon=True)
            process.start()
            theirs.close()
            self._ends[ours] = process

    @property
    def ends(self) -> tuple[Connection, ...]:
        """One for each worker: ``send`` asks it something."""
        return tuple(self._ends)

    def answers(self, seconds: float) -> Iterator[tuple[Connection, Any]]:
        """What came in within so many seconds.  Raises DifftestError where a worker is gone."""
        for end in wait(self.ends, seconds):
            assert isinstance(end, Connection)  # noqa: S101 - nothing else is waited for
            try:
                yield end, end.recv()
            except (EOFError, OSError):
                process = self._ends[end]
                process.join(_PATIENCE)
                raise DifftestError(f"a worker ended with {process.exitcode}") from None

    def _work(self, ours: Connection, theirs: Connection) -> None:
        ours.close()
        for end in self._ends:  # those of workers before: they must see when this process ends
            end.close()
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end)
        self._serve(theirs)

    def close(self) -> None:
        """End all workers, with what they run."""
        for process in self._ends.values():
            process.terminate()
        for end, process in self._ends.items():
            process.join(_PATIENCE)
            if process.pid is not None:
                # What it left in its group; a worker that ended well left nothing.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.join()
            end.close()
        self._ends.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)
