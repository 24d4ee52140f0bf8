"""``qcow2crypt measure``: how much space a new image would take."""

from __future__ import annotations

from contextlib import ExitStack

import qcow2crypt
from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.createopts import help_lines, read_create_options, wants_help
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import check_format
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    OUTPUT,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.sources import open_source, snapshot_of
from qcow2crypt.cli.targets import CREATE_OPTIONS
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt measure [options] (--size SIZE | FILE)"
ABOUT = """\
Tell how much space a new image would take: for an empty disk of SIZE bytes, or for a copy of the
disk in FILE.  Writes nothing.

  qcow2crypt measure -O qcow2 --size 10G
  qcow2crypt measure -O qcow2 -o cluster_size=4k old.qcow2
"""
OPTIONS = (
    Option("O", "O", metavar="FMT", about="the format of the new image: raw (default) or qcow2"),
    CREATE_OPTIONS,
    Option("size", name="size", metavar="SIZE", about="the size of an empty disk"),
    OUTPUT,
    source_format("the format of FILE; without it the first bytes decide"),
    Option("l", "l", metavar="SNAPSHOT", about="the disk of an internal snapshot of FILE"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    HELP,
)


def run(arguments: Arguments, console: Console) -> int:
    """Print the two or three numbers.  Raises what the library raises."""
    as_json = check_output(arguments) == "json"
    format_name = check_format(arguments.last("O") or "raw", what="-O")
    texts = arguments.all("o")
    if wants_help(texts):
        for line in help_lines(format_name):
            console.out(line)
        return 0
    text = arguments.last("size")
    size = None if text is None else parse_size(text, what="--size")
    _check_words(arguments)
    objects = read_objects(arguments.all("object"), console)
    wanted = read_create_options(texts, format_name)
    options = wanted.library_options() if format_name == "qcow2" else None
    with ExitStack() as images:
        source = None
        if arguments.operands:
            source = images.enter_context(
                open_source(arguments.operands[0], arguments, objects, console)
            )
            if (snapshot := arguments.last("l")) is not None:
                source = snapshot_of(source, snapshot, images)
        found = qcow2crypt.measure(format_name, size=size, source=source, options=options)
    if as_json:
        from qcow2crypt.cli.output_json import measure_json

        console.out(measure_json(found))
        return 0
    console.out(f"required size: {found.required}")
    console.out(f"fully allocated size: {found.fully_allocated}")
    if found.bitmaps is not None:
        console.out(f"bitmaps size: {found.bitmaps}")
    return 0


def _check_words(arguments: Arguments) -> None:
    """A size or one file, and nothing about a file without one."""
    if len(arguments.operands) > 1:
        raise UsageError("measure takes the name of one image at most")
    if bool(arguments.operands) == arguments.flag("size"):
        raise UsageError("measure takes --size SIZE or the name of one image")
    if not arguments.operands and any(map(arguments.flag, ("image-opts", "format", "l"))):
        raise CommandError("--image-opts, -f and -l are about an image: name one, not --size")
