"""How far a long command is: a bar for people, JSON lines for programs.

Knows bytes done and bytes in all.  Everything goes to standard error, so that standard output
stays free.  The clock is asked for every report; at most five a second are shown, and always the
first and the last.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol, TypeAlias

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments, Option
from qcow2crypt.cli.sizes import format_size

INTERVAL = 0.2
"""Seconds between two reports."""

PROGRESS_OPTIONS = (
    Option("p", "p", about="show the progress on standard error (a terminal shows it anyway)"),
    Option(
        "progress",
        name="progress",
        metavar="json|bar|none",
        about="json: one JSON object a line on standard error; docs/json-output.md",
    ),
)


Report: TypeAlias = Callable[[int, "int | None"], None]
"""What the library calls: bytes done, bytes in all, None while nobody knows how many."""


class _Display(Protocol):
    """One way to show progress."""

    def show(self, done: int, total: int | None, elapsed: float) -> None:
        """Show one report.  ``elapsed`` is in seconds."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class JsonLines:
    """One JSON object a line, see docs/json-output.md."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._before: int | None = None

    def show(self, done: int, total: int | None, elapsed: float) -> None:
        """See _Display."""
        import json

        if self._before is None:
            self._before = done  # an earlier conversion, which this one goes on with, did so much
        rate = (done - self._before) / elapsed if elapsed > 0 else None
        eta = (total - done) / rate if rate and total is not None else None
        report = {
            "phase": self._phase,
            "done": done,
            "total": total,
            "rate": None if rate is None else round(rate),
            "eta": None if eta is None else round(eta, 1),
        }
        sys.stderr.write(json.dumps(report) + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """See _Display."""


class PlainLine:
    """``(12.34/100%)`` over and over on one line, as qemu-img writes it."""

    def show(self, done: int, total: int | None, elapsed: float) -> None:
        """See _Display."""
        del elapsed
        sys.stderr.write(f"    ({far(done, total)})\r")
        sys.stderr.flush()

    def close(self) -> None:
        """See _Display."""
        sys.stderr.write("\n")


class Bar:
    """A bar with rate and time left.  Imports rich, so only made for a terminal."""

    def __init__(self, phase: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            Task,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Speed(ProgressColumn):
            """Bytes a second, in the units of the size beside it."""

            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{format_size(int(speed))}/s")

        class TimeLeft(TimeRemainingColumn):
            """The time left, or the time that it took so far while nobody knows the end."""

            def render(self, task: Task) -> Text:
                return TimeElapsedColumn().render(task) if not task.total else super().render(task)

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(binary_units=True),
            Speed(),
            TimeLeft(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(phase, total=None)
        self._is_new = True
        self._bar.start()

    def show(self, done: int, total: int | None, elapsed: float) -> None:
        """See _Display."""
        del elapsed
        if self._is_new:  # what was done before has no speed
            self._bar.reset(self._task, completed=done, total=total)
            self._is_new = False
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """See _Display."""
        self._bar.stop()


def percent(done: int, total: int) -> float:
    """How much is done; an empty disk is done at once."""
    return 100.0 * done / total if total else 100.0


def far(done: int, total: int | None) -> str:
    """How far the work is, in qemu-img's form; in bytes while nobody knows the end."""
    return format_size(done) if total is None else f"{percent(done, total):.2f}/100%"


def progress_mode(arguments: Arguments) -> str:
    """``json``, ``bar``, ``plain`` or ``none``.  Raises CommandError for an unknown word.

    ``--progress=json`` is for a program and speaks also with -q; else -q goes before all, then
    --progress, then -p; without them a terminal gets a bar.
    """
    word = arguments.last("progress")
    if word not in (None, "json", "bar", "none"):
        raise CommandError("--progress is json, bar or none")
    if word == "json":
        return word
    if word == "none" or arguments.flag("quiet"):
        return "none"
    on_terminal = sys.stderr.isatty()
    if word == "bar" or arguments.flag("p"):
        return "bar" if on_terminal else "plain"
    return "bar" if on_terminal else "none"


class _Reporter:
    """The callback: throttles, remembers the last report, shows it on close."""

    def __init__(self, mode: str, phase: str) -> None:
        self._mode = mode
        self._phase = phase
        self._display: _Display | None = None
        self._start = self._shown_at = 0.0
        self._last: tuple[int, int | None] = (0, 0)
        self._shown: tuple[int, int | None] | None = None
        self.asked = False

    def __call__(self, done: int, total: int | None, /) -> None:
        now = time.monotonic()
        self._last = (done, total)
        if self._shown is None:
            self._start = now
        elif now - self._shown_at < INTERVAL and done != total and not self.asked:
            return
        if self.asked:
            self.asked = False
            sys.stderr.write(f"    ({far(done, total)})\n")
            sys.stderr.flush()
        self._show(now)

    def _show(self, now: float) -> None:
        self._shown, self._shown_at = self._last, now
        if self._mode == "none":
            return
        if self._display is None:
            self._display = _make_display(self._mode, self._phase)
        self._display.show(*self._last, now - self._start)

    def close(self) -> None:
        """Show the last report, if it was held back, and leave the terminal tidy."""
        if self._shown is not None and self._shown != self._last:
            self._show(time.monotonic())
        if self._display is not None:
            self._display.close()


def _make_display(mode: str, phase: str) -> _Display:
    if mode == "json":
        return JsonLines(phase)
    return Bar(phase) if mode == "bar" else PlainLine()


@contextlib.contextmanager
def progress(mode: str, phase: str) -> Iterator[Report]:
    """Give the callback for one piece of work.  SIGUSR1 asks for one line, as with qemu-img."""
    reporter = _Reporter(mode, phase)
    with _on_signal(reporter):
        try:
            yield reporter
        finally:
            reporter.close()


@contextlib.contextmanager
def _on_signal(reporter: _Reporter) -> Iterator[None]:
    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        reporter.asked = True

    if not hasattr(signal, "SIGUSR1"):  # Windows
        yield
        return
    try:
        before = signal.signal(signal.SIGUSR1, ask)
    except ValueError:  # not in the main thread: then nobody can ask
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
