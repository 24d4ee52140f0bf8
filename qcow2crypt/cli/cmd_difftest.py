"""``qcow2crypt difftest``: find what differs between two implementations of qcow2."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcow2crypt.cli.failures import UsageError, exit_status
from qcow2crypt.cli.options import HELP, QUIET, Arguments, Option
from qcow2crypt.cli.terminal import Console
from qcow2crypt.errors import DifftestError

if TYPE_CHECKING:
    from qcow2crypt.difftest.engines import Progress as EnginesProgress
    from qcow2crypt.difftest.run import Progress
    from qcow2crypt.difftest.settings import Settings, State
    from qcow2crypt.testing.case import Case

USAGE = "qcow2crypt difftest [--subject WHO] [--oracle WHO] [--profile NAME] [--time T] ..."
ABOUT = """\
Make random images with qemu-img and qemu-io, let a subject read them, and compare what it gives
with what an oracle gives.  What our writer makes is read by QEMU.  Each difference is shrunk to a
few commands and a tiny image, with a report that can be sent to the authors.

  qcow2crypt difftest --time 10m --jobs 2
  qcow2crypt difftest --subject libqcow --profile aes
  qcow2crypt difftest --subject "myreader {image} {secret_file} {out}"
  qcow2crypt difftest --engines --time 1m

WHO is ours, qemu-img, reference (slow, by the textbook), libqcow, or a command with {image} and
{out} in it.  Ends with 0 if there is no difference, 1 if there is one, 2 after an error.
"""
OPTIONS = (
    Option("subject", name="subject", metavar="WHO", about="who is tested (default: ours)"),
    Option("oracle", name="oracle", metavar="WHO", about="who is right (default: qemu-img)"),
    Option(
        "writer",
        name="writer",
        metavar="WHO",
        about="whose images QEMU reads: ours, none, a command (default: ours for ours)",
    ),
    Option(
        "profile",
        name="profile",
        metavar="NAME",
        about="aes, plain, chains, snapshots, compressed, subclusters, all (default: all)",
    ),
    Option("time", name="time", metavar="T", about="how long: 30s, 10m, 8h (default: 1m)"),
    Option("cases", name="cases", metavar="N", about="at most so many cases"),
    Option("seed", name="seed", metavar="N", about="which cases: the same seed, the same cases"),
    Option("start", name="start", metavar="N", about="the number of the first case (default: 0)"),
    Option("jobs", name="jobs", metavar="N", about="how many at once (default: one for each core)"),
    Option("timeout", name="timeout", metavar="S", about="seconds for one program (default: 20)"),
    Option(
        "engines",
        name="engines",
        about="hold all engines and kernels against each other, OpenSSL and PyCryptodome",
    ),
    Option(
        "versions",
        name="versions",
        metavar="DIR",
        about="hold builds of QEMU against each other: the folders in DIR",
    ),
    Option("case", name="case", metavar="FILE", about="one case alone: the case.json of a report"),
    Option(
        "output",
        name="output",
        metavar="FOLDER",
        about="where reports go: a new folder (default: difftest-SEED)",
    ),
    Option("resume", name="resume", metavar="FOLDER", about="go on with a run that was broken off"),
    Option(
        "allow-refusals",
        name="allow-refusals",
        about="end with 0 where the subject refuses by an error what the oracle reads",
    ),
    Option("json", name="json", about="print the summary as JSON"),
    QUIET,
    HELP,
)
_UNITS = {"s": 1, "m": 60, "h": 3600}
_WITH_RESUME = {"resume", "json", "time", "jobs", "allow-refusals", "quiet"}
_WITH_ENGINES = {"engines", "json", "time", "jobs", "seed", "cases", "quiet"}


def run(arguments: Arguments, console: Console) -> int:
    """Compare, print, and give the exit code.  Every error is a 2."""
    try:
        with exit_status(2):
            return _run(arguments, console)
    except UsageError as error:
        error.status = 2
        raise


def _run(arguments: Arguments, console: Console) -> int:
    if arguments.operands:
        raise UsageError("difftest takes no file names: it makes its own images")
    if arguments.flag("engines"):
        return _engines(arguments, console)
    if arguments.flag("versions"):
        return _versions(arguments, console)
    state, folder, only = _state(arguments)
    found = _go(state, folder, only, console)
    if arguments.flag("json"):
        console.out(json.dumps(found, indent=1))
    else:
        _show(found, console)
    return _status(found, arguments)


def _go(state: State, folder: Path, only: Case | None, console: Console) -> dict[str, Any]:
    """Do a run in its folder, which is made."""
    from qcow2crypt.difftest.run import make_setup, run

    make_setup(state.settings)  # so that nothing is left behind by a word that cannot be
    folder.mkdir(exist_ok=True, parents=True)
    show = not console.quiet and sys.stderr.isatty()
    try:
        found = run(state, folder, _tell if show else _tell_nobody, only)
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C, or a signal
            _say_how_to_go_on(folder, console)
        raise
    finally:
        if show:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    return {**found, "folder": str(folder)}


def _engines(arguments: Arguments, console: Console) -> int:
    from qcow2crypt.difftest.engines import run_engines

    _only(arguments, _WITH_ENGINES, "--engines makes its own runs")
    show = not console.quiet and sys.stderr.isatty()
    found = run_engines(
        _number(arguments, "seed", 1, least=0),
        _seconds(arguments),
        _number(arguments, "jobs", _cores()),
        _number(arguments, "cases", 1) if arguments.flag("cases") else None,
        _tell_runs if show else _tell_nobody,
    )
    if show:
        sys.stderr.write("\r\x1b[K")
    if arguments.flag("json"):
        console.out(json.dumps(found, indent=1))
    else:
        from qcow2crypt.cli.output_difftest import engines_lines

        for line in engines_lines(found):
            console.out(line)
    return 1 if found["wrong"] else 0


def _versions(arguments: Arguments, console: Console) -> int:
    """One run for each build but the first, which is the oracle."""
    from dataclasses import replace

    from qcow2crypt.difftest.builds import builds_in
    from qcow2crypt.difftest.settings import State

    for name in ("subject", "oracle", "writer", "case", "resume"):
        if arguments.flag(name):
            raise UsageError(f"--versions names who is compared: leave out --{name}")
    first, *others = builds_in(Path(str(arguments.last("versions"))))
    plain = _settings(arguments)
    seconds = plain.seconds / len(others)
    home, runs = _output(arguments, plain), []
    for number, other in enumerate(others, 1):
        settings = replace(plain, subject=other, oracle=first, writer="none", seconds=seconds)
        folder = home / f"build-{number}"
        runs.append(_go(State(settings, settings.start), folder, None, console))
        if not arguments.flag("json"):
            _show(runs[-1], console)
    if arguments.flag("json"):
        console.out(json.dumps({"difftest_versions": 1, "runs": runs}, indent=1))
    return max(_status(found, arguments) for found in runs)


def _state(arguments: Arguments) -> tuple[State, Path, Case | None]:
    """The run as the options say: its state, its folder, and its case if that is given."""
    from qcow2crypt.difftest.settings import State

    resumed = arguments.last("resume")
    if resumed is not None:
        _only(arguments, _WITH_RESUME, "--resume goes on with what was said then")
        from dataclasses import replace

        folder = Path(resumed)
        state = State.load(folder)
        if arguments.flag("time"):
            seconds = state.spent + _seconds(arguments)
            state.settings = replace(state.settings, seconds=seconds)
        if arguments.flag("jobs"):
            state.settings = replace(state.settings, jobs=_number(arguments, "jobs", 1))
        return state, folder, None
    settings = _settings(arguments)
    only = _case(arguments)
    return State(settings, settings.start), _output(arguments, settings), only


def _only(arguments: Arguments, allowed: set[str], why: str) -> None:
    """Refuse all options but the allowed ones."""
    extra = [o.name for o in OPTIONS if arguments.flag(o.key) and o.key not in allowed]
    if extra:
        names = ", ".join(f"--{name}" for name in extra)
        raise UsageError(f"{why}: leave out {names}")


def _cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings(arguments: Arguments) -> Settings:
    from qcow2crypt.difftest.settings import Settings

    subject = arguments.last("subject") or "ours"
    alone = arguments.flag("case")
    return Settings(
        subject=subject,
        oracle=arguments.last("oracle") or "qemu-img",
        writer=arguments.last("writer") or ("ours" if subject == "ours" else "none"),
        profile=arguments.last("profile") or "all",
        seed=_number(arguments, "seed", 1, least=0),
        start=_number(arguments, "start", 0, least=0),
        cases=1 if alone else (_number(arguments, "cases", 1) if arguments.flag("cases") else None),
        seconds=_seconds(arguments),
        jobs=1 if alone else _number(arguments, "jobs", _cores()),
        longest=float(_number(arguments, "timeout", 20)),
    )


def _case(arguments: Arguments) -> Case | None:
    name = arguments.last("case")
    if name is None:
        return None
    from qcow2crypt.testing.case import Case

    try:
        return Case.from_json(json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise DifftestError(f"'{name}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DifftestError(f"'{name}' is no case: {error}") from error


def _output(arguments: Arguments, settings: Settings) -> Path:
    named = arguments.last("output")
    if named is not None:
        if (Path(named) / "state.json").exists():
            raise DifftestError(f"'{named}' has a run already: --resume {named} goes on with it")
        return Path(named)
    first = Path(f"difftest-{settings.seed}")
    folder, number = first, 1
    while folder.exists():
        number += 1
        folder = Path(f"{first}-{number}")
    return folder


def _seconds(arguments: Arguments) -> float:
    text = arguments.last("time") or "1m"
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"--time is a number with s, m or h behind it, not '{text}'")
    return seconds


def _number(arguments: Arguments, key: str, default: int, least: int = 1) -> int:
    text = arguments.last(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UsageError(f"--{key} is a number from {least} on, not '{text}'")
    return int(text)


def _tell(progress: Progress) -> None:
    words = f"{progress.seconds:.0f} of {progress.of:.0f} s, {progress.cases} cases, "
    words += f"{progress.differences} differences"
    words += f", {progress.shrinking} being shrunk" if progress.shrinking else ""
    sys.stderr.write(f"\r\x1b[K{words}")
    sys.stderr.flush()


def _tell_runs(progress: EnginesProgress) -> None:
    words = f"{progress.seconds:.0f} of {progress.of:.0f} s, {progress.runs} runs, "
    sys.stderr.write(f"\r\x1b[K{words}{progress.differences} differences")
    sys.stderr.flush()


def _tell_nobody(progress: Progress | EnginesProgress) -> None:
    del progress


def _say_how_to_go_on(folder: Path, console: Console) -> None:
    console.warn(f"broken off; 'qcow2crypt difftest --resume {folder}' goes on")


def _show(found: dict[str, Any], console: Console) -> None:
    from qcow2crypt.cli.output_difftest import difftest_lines

    for line in difftest_lines(found):
        console.out(line)


def _status(found: dict[str, Any], arguments: Arguments) -> int:
    counted = found["wrong"] + (0 if arguments.flag("allow-refusals") else found["refused"])
    return 1 if counted else 0
