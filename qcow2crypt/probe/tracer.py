"""Run a program under ptrace and write down which AES instructions ran, and how often.

The loop around wait(2).  Works without root, symbols or a debugger.  Threads, forked children and
programs that are started by exec are followed; whatever is left when the program has ended is
ended, too, and the kernel does the same if we are killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

from qcow2crypt.errors import ProbeError, PtraceRefusedError
from qcow2crypt.probe import ptrace
from qcow2crypt.probe.job import Job
from qcow2crypt.probe.kernelcrypto import KernelWatch
from qcow2crypt.probe.memory import process_of
from qcow2crypt.probe.record import Trace
from qcow2crypt.probe.sightings import Sightings, Thread
from qcow2crypt.probe.space import Space
from qcow2crypt.probe.watch import PerfWatch, RegisterWatch, Watch

_AFTER_FAILURE = 1.0
"""Seconds that a program gets to end by itself when what works with it has failed."""
_STOPPING = frozenset((signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU))
# Stops before the program begins, so that it is ours from its first instruction on.
_START = 'kill -STOP $$; exec "$@"'


def trace(
    job: Job,
    *,
    seconds: float | None = None,
    meanwhile: Callable[[threading.Event], object] | None = None,
) -> Trace:
    """Run ``job`` to its end.  ``meanwhile`` is called while it runs, with the event of its end.

    Raises ProbeError where it cannot be started or traced.  When ``seconds`` are over, everything
    is ended and ``timed_out`` is set.
    """
    tracer = _Tracer(job)
    thread = threading.Thread(target=tracer.run, name="qcow2crypt-probe", daemon=True)
    thread.start()
    try:
        if meanwhile is not None:
            try:
                meanwhile(tracer.finished)
            except ProbeError as error:
                tracer.record.companion = str(error)
                seconds = _AFTER_FAILURE
        if not tracer.finished.wait(seconds):
            tracer.record.timed_out = True
    finally:
        tracer.cancel()
        thread.join()
    if tracer.failure is not None:
        raise tracer.failure
    return tracer.record


class _Tracer:
    """All that happens in the one thread that owns the traced processes."""

    def __init__(self, job: Job) -> None:
        self.record = Trace()
        self.finished = threading.Event()
        self.failure: BaseException | None = None
        self._job = job
        self._root = 0
        self._threads: dict[int, Thread] = {}
        self._early: set[int] = set()
        self._watch: Watch = RegisterWatch() if job.registers else PerfWatch()
        self._sightings = Sightings(job, self.record, self._watch, self._threads)
        self._kernel = KernelWatch(self.record.kernel)
        self._cancelled = False
        self._started = False

    def run(self) -> None:
        """The whole run.  What goes wrong is kept for the thread that waits."""
        try:
            self._start()
            self._loop()
            self.record.counts = self._watch.counts()
            self.record.users = self._watch.users()
            if self._watch.incomplete:
                self.record.partly |= set(self.record.counts)
            self.record.limits += dict.fromkeys(self._watch.limits)
            if not self._started and self.record.status is not None:
                raise ProbeError(f"'{self._job.words[0]}' cannot be started")
        except BaseException as error:  # noqa: BLE001 - told by the other thread
            self.failure = error
            self._end_all()
        finally:
            self._watch.close()
            self.finished.set()

    def cancel(self) -> None:
        """End everything that still runs; from any thread."""
        self._cancelled = True
        for tid in list(self._threads):
            with contextlib.suppress(ProcessLookupError):
                os.kill(tid, signal.SIGKILL)

    def _end_all(self) -> None:
        self.cancel()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, ptrace.WAIT_ALL | ptrace.WAIT_OWN)

    def _start(self) -> None:
        actions = [
            (os.POSIX_SPAWN_DUP2, wanted, number)
            for number, wanted in enumerate(self._job.files or ())
        ]
        words = ["sh", "-c", _START, "sh", *self._job.words]
        try:
            pid = os.posix_spawn(
                "/bin/sh",
                words,
                self._job.environment,
                file_actions=actions,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except (OSError, ValueError) as error:
            raise ProbeError(f"no program can be started here: {error}") from error
        self._root = pid
        self._threads[pid] = Thread(None, pid)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise ProbeError("the shell that starts the program has ended")
        try:
            ptrace.seize(pid)
        except OSError as error:
            raise PtraceRefusedError(
                f"this system does not let one process look into another ({error.strerror})"
            ) from error
        os.kill(pid, signal.SIGCONT)

    def _loop(self) -> None:
        while True:
            try:
                tid, status = os.waitpid(-1, ptrace.WAIT_ALL | ptrace.WAIT_OWN)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                try:
                    self._stopped(tid, os.WSTOPSIG(status), status >> 16)
                except OSError as error:
                    self._failed(tid, error)
            else:
                self._ended(tid, status)

    def _failed(self, tid: int, error: OSError) -> None:
        """A process that was killed meanwhile answers no call: its end comes next."""
        if not isinstance(error, ProcessLookupError):
            self.record.limits.append(f"a part was not seen: {error.strerror}")
        with contextlib.suppress(OSError):
            ptrace.go_on(tid)  # or it would stand still for ever

    def _ended(self, tid: int, status: int) -> None:
        if (thread := self._threads.pop(tid, None)) is not None:
            self._sightings.ended(tid, thread)
        if tid != self._root:
            return
        if os.WIFEXITED(status):
            self.record.status = os.WEXITSTATUS(status)
        else:
            self.record.signal = os.WTERMSIG(status)
        if not self._cancelled:
            self.record.left = len({thread.process for thread in self._threads.values()})
            self.cancel()

    def _stopped(self, tid: int, number: int, event: int) -> None:
        if self._cancelled:
            os.kill(tid, signal.SIGKILL)
        thread = self._threads.setdefault(tid, Thread())
        if not thread.process:
            self._early.add(tid)  # its parent has not told of it yet
            return
        deliver = 0
        if event in {ptrace.FORK, ptrace.VFORK, ptrace.CLONE}:
            self._born(thread, ptrace.event_message(tid), event)
        elif event == ptrace.EXEC:
            self._new_program(tid, thread)
        elif event == ptrace.EVENT_STOP:
            if number in _STOPPING:
                ptrace.stay_stopped(tid)
                return
        elif number == signal.SIGTRAP | ptrace.SYSCALL_MARK:
            info = ptrace.syscall_info(tid)
            self._kernel.stop(tid, thread.process, info)
            self._sightings.system_call(tid, info)
        elif not self._for_us(tid, thread, number):
            deliver = number
        self._sightings.resume(tid, thread, deliver)

    def _for_us(self, tid: int, thread: Thread, number: int) -> bool:
        """Was it a breakpoint of ours?  Every other signal is for the program."""
        if number != signal.SIGTRAP or thread.space is None:
            return False
        return self._sightings.trapped(tid, thread, thread.space)

    def _born(self, parent: Thread, child: int, event: int) -> None:
        """A new thread or process.  Its memory is a copy after a fork, and the same otherwise."""
        thread = self._threads.setdefault(child, Thread())
        thread.process = process_of(child) or child
        if parent.space is not None:
            thread.space = parent.space.copy() if event == ptrace.FORK else parent.space
        if child in self._early:
            self._early.discard(child)
            self._sightings.resume(child, thread)

    def _new_program(self, tid: int, thread: Thread) -> None:
        """A program was started in place of the old one; its other threads are no more."""
        for other, each in list(self._threads.items()):
            if each.process == thread.process:
                self._sightings.ended(other, each)
                if other != tid:
                    self._threads.pop(other)
        self._started = True
        thread.space = Space(tid)
        self._sightings.limit(thread.space)
        self._sightings.program(thread.space)
