"""Do jobs on a few threads, with one step of each in the order of the jobs.

A job reads, waits for its turn, decides, passes the turn and writes.  What is decided in turn is
the same for any number of threads.  Memory is bounded: a thread has one job at a time.  Knows
nothing of images.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TypeAlias, TypeVar

from qcow2crypt.errors import ArgumentError

Job = TypeVar("Job")
Turn: TypeAlias = "AbstractContextManager[None]"
Worker: TypeAlias = "Callable[[Job, Turn], int]"
"""Does one job and gives how far the work is then.  It enters the turn once, or not at all."""

THREADS_MAX = 16
_THREADS_USEFUL = 4
_WAIT_SECONDS = 0.5
"""On Windows a wait without an end could not be interrupted."""
_TELL_SECONDS = 0.03
"""So often it is told what is done.  After each job would wake a thread that the workers wait for:
only one can run Python at a time."""


class _StoppedError(Exception):
    """An earlier job failed, or the caller gave up: this thread ends."""


def default_threads() -> int:
    """One for each processor that this process may use, but not more than are of use."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _THREADS_USEFUL)
    return min(os.cpu_count() or 1, _THREADS_USEFUL)


def checked_threads(wanted: int | None) -> int:
    """So many threads as are wanted, or as are of use.  Raises ArgumentError."""
    if wanted is not None and not 1 <= wanted <= THREADS_MAX:
        raise ArgumentError(f"the number of threads is 1 to {THREADS_MAX}, not {wanted}")
    return wanted or default_threads()


def in_turn(
    jobs: Iterable[Job],
    make_worker: Callable[[], Worker[Job]],
    tell: Callable[[int], None],
    threads: int,
    *,
    give_up: Callable[[], None] | None = None,
) -> None:
    """Do all jobs.  ``make_worker`` is called once for each thread, for buffers of its own.

    ``tell`` is called in this thread, in the order of the jobs, when one and all before it are
    done; with several threads some times in a second, for all that are done by then.  ``give_up``
    is called with several threads when no more jobs are wanted: one of them may still wait for the
    next job, and should wait no longer.  Of the errors of several jobs that of the first is raised,
    unchanged.  When this returns or raises, no thread is left.
    """
    if threads > 1 and _Line(iter(jobs), make_worker, give_up or _nothing).run(threads, tell):
        return
    worker = make_worker()
    for job in jobs:
        tell(worker(job, nullcontext()))


def _nothing() -> None:
    """Nobody waits."""


class _Line:
    """The jobs of one call, and how far they are."""

    def __init__(
        self,
        jobs: Iterator[Job],
        make_worker: Callable[[], Worker[Job]],
        give_up: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._make_worker = make_worker
        self._give_up = give_up
        self._taking = threading.Lock()
        self._lock = threading.Lock()
        self._turns = threading.Condition(self._lock)
        self._ends = threading.Condition(self._lock)
        self._taken = 0
        self._turn = 0
        self._working = 0
        self._running = 0
        self._done: dict[int, int] = {}
        self._stopped = False
        self._failed: int | None = None
        self._error: BaseException | None = None

    def run(self, threads: int, tell: Callable[[int], None]) -> bool:
        """Start the threads, tell what is done, and wait for their end.

        Where the system has room for fewer threads, fewer do the work; False if it has for none.
        """
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        started: list[threading.Thread] = []
        self._working = threads
        try:
            for thread in workers:
                try:
                    thread.start()
                except RuntimeError:  # a limit of memory or of processes
                    break
                started.append(thread)
            with self._lock:
                self._working -= threads - len(started)
            self._watch(tell)
        finally:
            self._end(started)
        if self._error is not None:
            raise self._error
        return bool(started)

    def _end(self, started: list[threading.Thread]) -> None:
        """Let all threads end, and wait: also for one whose start was interrupted by Ctrl-C."""
        with self._lock:
            self._stopped = True
            self._turns.notify_all()
            running = self._running
        if started or running:
            self._give_up()
        with self._lock:
            while self._running:
                self._ends.wait(_WAIT_SECONDS)
        for thread in started:
            thread.join()

    def _watch(self, tell: Callable[[int], None]) -> None:
        told = 0
        while True:
            with self._lock:
                while told not in self._done and self._working:
                    self._ends.wait(_TELL_SECONDS)
                if told not in self._done:
                    return
                far = self._done.pop(told)
                while told + 1 in self._done:
                    told += 1
                    far = self._done.pop(told)
            told += 1
            tell(far)

    def _work(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._running += 1
        number = 0
        try:
            worker = self._make_worker()
            while True:
                with self._taking:
                    number = self._taken
                    if self._ends_before(number):
                        return
                    self._taken += 1
                    job = next(self._jobs, None)
                if job is None:
                    return
                turn = _Turn(self, number)
                far = worker(job, turn)
                if not turn.taken:
                    with turn:
                        pass
                with self._lock:
                    self._done[number] = far
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(number, error)
        finally:
            with self._lock:
                self._running -= 1
                self._working -= 1
                self._ends.notify_all()

    def _ends_before(self, number: int) -> bool:
        return self._stopped or (self._failed is not None and self._failed <= number)

    def _fail(self, number: int, error: BaseException) -> None:
        with self._lock:
            if self._failed is None or number < self._failed:
                self._failed, self._error = number, error
            self._turns.notify_all()
        self._give_up()

    def wait_for(self, number: int) -> None:
        """Wait until all jobs before this one have passed the turn."""
        with self._lock:
            while self._turn != number:
                if self._ends_before(number):
                    raise _StoppedError
                self._turns.wait(_WAIT_SECONDS)
            if self._stopped:
                raise _StoppedError

    def pass_on(self, number: int) -> None:
        """Let the next job have its turn."""
        with self._lock:
            self._turn = number + 1
            self._turns.notify_all()


class _Turn:
    """The turn of one job."""

    def __init__(self, line: _Line, number: int) -> None:
        self._line = line
        self._number = number
        self.taken = False

    def __enter__(self) -> None:
        self.taken = True
        self._line.wait_for(self._number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._line.pass_on(self._number)
