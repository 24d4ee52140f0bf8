"""``qcow2crypt bench``: how fast is it here, and does the cluster size matter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.options import HELP, QUIET, Arguments, Option
from qcow2crypt.cli.terminal import Console

if TYPE_CHECKING:
    from qcow2crypt.bench.settings import Settings

USAGE = "qcow2crypt bench [--quick | --full] [--json FILE|-] [--html FILE] [--directory DIR]"
ABOUT = """\
Measure how fast encryption, conversions and random requests are on this machine, by cluster size,
plain and encrypted, with and without AES instructions, beside qemu-img and qemu-io where they are
installed.  Ends with an answer in words: does performance depend on the cluster size?

  qcow2crypt bench --quick
  qcow2crypt bench --full --html report.html --json figures.json

Takes about a minute and a half; --quick less than 20 seconds, --full about seven minutes.  The
files it needs are made in memory where there is room, and removed at the end.
"""
OPTIONS = (
    Option("quick", name="quick", about="less than 20 seconds: four cluster sizes, few rounds"),
    Option("full", name="full", about="minutes: all cluster sizes, three request sizes, openssl"),
    Option("json", name="json", metavar="FILE|-", about="write all figures as JSON; - prints them"),
    Option(
        "html", name="html", metavar="FILE", about="write a report with pictures: one HTML file"
    ),
    Option(
        "directory",
        name="directory",
        metavar="DIR",
        about="where to make the files (default: in memory, or where temporary files go)",
    ),
    QUIET,
    HELP,
)


def run(arguments: Arguments, console: Console) -> int:
    """Measure, print, write.  Raises what ``bench.run.measure`` raises, and CommandError."""
    if arguments.operands:
        raise UsageError("bench takes no file names: it makes its own files")
    if arguments.flag("quick") and arguments.flag("full"):
        raise UsageError("--quick and --full exclude each other")
    json_name, html_name = arguments.last("json"), arguments.last("html")
    for name in (json_name, html_name):
        if name is not None:
            refuse_unwritable(name)
    document = _measured(arguments, console)
    if json_name is not None:
        _write_json(json_name, document, console)
    if html_name is not None:
        from qcow2crypt.bench.report import report

        write_text(html_name, report(document))
    if json_name != "-":
        _show(document, console)
    return 0


def _measured(arguments: Arguments, console: Console) -> dict[str, Any]:
    from qcow2crypt.bench.run import measure

    directory = arguments.last("directory")
    show = not console.quiet and sys.stderr.isatty()
    try:
        return measure(
            _settings(arguments),
            _tell if show else _tell_nobody,
            None if directory is None else Path(directory),
        )
    finally:
        if show:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _settings(arguments: Arguments) -> Settings:
    from qcow2crypt.bench import settings

    if arguments.flag("quick"):
        return settings.QUICK
    return settings.FULL if arguments.flag("full") else settings.USUAL


def _tell(number: int, rounds: int, seconds: float) -> None:
    step = f"round {number} of up to {rounds}" if number else "making files, warming up"
    sys.stderr.write(f"\r\x1b[K{step}, {seconds:.0f} s")
    sys.stderr.flush()


def _tell_nobody(number: int, rounds: int, seconds: float) -> None:
    del number, rounds, seconds


def _show(document: dict[str, Any], console: Console) -> None:
    from qcow2crypt.cli.output_bench import bench_lines

    for line in bench_lines(document):
        console.out(line)


def _write_json(name: str, document: dict[str, Any], console: Console) -> None:
    import json

    text = json.dumps(document, indent=1)
    if name == "-":
        console.out(text)
    else:
        write_text(name, text + "\n")


def write_text(name: str, text: str) -> None:
    """Write a result into a file.  Raises CommandError."""
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"'{name}' cannot be written: {error.strerror}") from error


def refuse_unwritable(name: str) -> None:
    """Say at once, and not after minutes, that there is no place for a result."""
    path = Path(name)
    if name != "-" and (path.is_dir() or not path.parent.is_dir()):
        raise CommandError(f"'{name}' cannot be written: it is a folder, or its folder is missing")
