"""``qcow2crypt dd``: copy a part of a guest disk into a new image."""

from __future__ import annotations

from dataclasses import dataclass

import qcow2crypt
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import check_format, name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.sources import open_source
from qcow2crypt.cli.targets import warn_if_name_misleads
from qcow2crypt.cli.terminal import Console, printable

USAGE = "qcow2crypt dd [options] if=FILE of=TARGET [bs=SIZE] [count=N] [skip=N]"
ABOUT = """\
Copy the guest disk of FILE, or a part of it, into a new image TARGET, which is never encrypted.
bs is the unit of count and skip (512).  As in qemu-img, and unlike dd, both are counted from the
start of the disk: skip=1 count=3 copies two blocks.  Zeros are stored; convert leaves them out.

  qcow2crypt dd if=old.qcow2 of=boot.raw count=1
  qcow2crypt dd -O qcow2 if=disk.raw of=part.qcow2 bs=1M skip=1 count=65
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    Option("O", "O", metavar="FMT", about="the format of TARGET: raw (default) or qcow2"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    HELP,
)
_BLOCK_SIZE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Operands:
    """What stands behind the options.  ``skip`` and ``count`` in blocks; ``count`` None: all."""

    source: str
    target: str
    block_size: int
    skip: int
    count: int | None

    def range_of(self, size: int) -> tuple[int, int] | None:
        """First byte and length on a disk of ``size`` bytes; None if it ends before the first."""
        end = size if self.count is None else min(size, self.count * self.block_size)
        start = self.skip * self.block_size
        return (start, end - start) if start <= end else None


def run(arguments: Arguments, console: Console) -> int:
    """Copy the range.  Raises what the library raises."""
    operands = read_operands(arguments.operands)
    given_format = arguments.last("O")
    format_name = check_format(given_format or "raw", what="-O")
    objects = read_objects(arguments.all("object"), console)
    target = name_image(operands.target, image_opts=False, given_format=None).path
    warn_if_name_misleads(target, given_format, console)
    with open_source(operands.source, arguments, objects, console) as source:
        found = operands.range_of(source.size)
        if found is None:
            console.warn(f"'{printable(operands.source)}': skip is behind the end: nothing to copy")
        start, length = found or (0, 0)
        qcow2crypt.copy_range(source, target, start=start, length=length, target_format=format_name)
    return 0


def read_operands(words: tuple[str, ...]) -> Operands:
    """Take ``if=`` and its kin apart; a later one wins.  Raises CommandError, UsageError."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("if", "of", "bs", "count", "skip") or not equals:
            raise CommandError(f"dd has no operand '{printable(name)}': if of bs count skip")
        given[name] = value
    if "if" not in given or "of" not in given:
        raise UsageError("dd takes if=FILE and of=TARGET")
    block_size = parse_size(given.get("bs", "512"), what="bs")
    if not 1 <= block_size <= _BLOCK_SIZE_MAX:
        raise CommandError(f"bs is 1 to {_BLOCK_SIZE_MAX} bytes")
    count = given.get("count")
    return Operands(
        source=given["if"],
        target=given["of"],
        block_size=block_size,
        skip=parse_size(given.get("skip", "0"), what="skip"),
        count=None if count is None else parse_size(count, what="count"),
    )
