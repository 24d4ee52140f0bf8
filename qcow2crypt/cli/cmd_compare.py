"""``qcow2crypt compare``: do two images hold the same guest disk?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import UsageError, exit_status
from qcow2crypt.cli.manner import check_cache
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    QUIET,
    STRIP_NEWLINE,
    Arguments,
    Option,
    layer_secret_options,
    secret_options,
    source_format,
)
from qcow2crypt.cli.passphrases import check_streams
from qcow2crypt.cli.progress import PROGRESS_OPTIONS, progress, progress_mode
from qcow2crypt.cli.sources import look_at_source, open_source
from qcow2crypt.cli.terminal import Console
from qcow2crypt.errors import ComparisonError
from qcow2crypt.units import SECTOR_SIZE, align_down

if TYPE_CHECKING:
    from qcow2crypt.tasks.comparison import Comparison

USAGE = "qcow2crypt compare [options] FILE1 FILE2"
ABOUT = """\
Compare the guest disks of two images.  The exit code is 0 if they are identical, 1 if they differ,
2 if an image cannot be opened, 3 or 4 if one cannot be read.  Disks of different sizes are
identical if the rest of the longer one reads as zeros; -s wants equal sizes, and every range
stored in the same way.

  qcow2crypt compare old.qcow2 disk.raw
  qcow2crypt compare --secret-file old.key --second-secret-file new.key old.qcow2 new.qcow2
"""
OPTIONS = (
    source_format("the format of FILE1; without it the first bytes decide"),
    Option("F", "F", metavar="FMT", about="the format of FILE2; without it the first bytes decide"),
    Option("s", "s", about="strict: sizes and the way of storing count too"),
    *secret_options("", "FILE1"),
    *secret_options("second-", "FILE2"),
    *CHAIN_OPTIONS,
    *layer_secret_options("second-", "FILE2"),
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    *PROGRESS_OPTIONS,
    QUIET,
    FORCE_SHARE,
    Option("T", "T", metavar="CACHE", about="no effect on the result: QEMU's cache"),
    HELP,
)

_DIFFERENT, _CANNOT_OPEN, _DAMAGED_TABLES, _CANNOT_READ = 1, 2, 3, 4


def run(arguments: Arguments, console: Console) -> int:
    """Compare, and give the exit code.  Raises what the library raises."""
    if len(arguments.operands) != 2:
        raise UsageError("compare takes the names of two images")
    mode = progress_mode(arguments)
    objects = read_objects(arguments.all("object"), console)
    strict = arguments.flag("s")
    with ExitStack() as images:
        with exit_status(_CANNOT_OPEN):
            check_cache(arguments, "T")
            check_streams(arguments, "second-secret")
            first, second = (
                images.enter_context(
                    open_source(
                        text, arguments, objects, console, format_key=format_key, prefix=prefix
                    )
                )
                for text, format_key, prefix in (
                    (arguments.operands[0], "format", "secret"),
                    (arguments.operands[1], "F", "second-secret"),
                )
            )
        from qcow2crypt.tasks.comparison import compare

        try:
            with progress(mode, "compare") as report:
                found = compare(first, second, strict=strict, progress=report)
        except ComparisonError as error:
            with exit_status(_DAMAGED_TABLES if error.in_tables else _CANNOT_READ):
                raise
        if found.first_difference is not None:
            for image in (first, second):
                look_at_source(image, console)
    if not console.quiet:
        for line in _lines(found):
            console.out(line)
    return 0 if found.identical else _DIFFERENT


def _lines(found: Comparison) -> Iterator[str]:
    """The words of qemu-img."""
    if found.strict and not found.same_size:
        yield "Strict mode: Image size mismatch!"
        return
    if found.allocation_difference is not None:
        yield f"Strict mode: Offset {found.allocation_difference} block status mismatch!"
        return
    place = found.first_difference
    if not found.same_size and (place is None or place >= min(found.sizes)):
        yield "Warning: Image size mismatch!"
    if place is None:
        yield "Images are identical."
    else:
        # The sector of the first byte that differs: so qemu-img counts.
        yield f"Content mismatch at offset {align_down(place, SECTOR_SIZE)}!"
