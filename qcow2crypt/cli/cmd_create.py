"""``qcow2crypt create``: a new empty image."""

from __future__ import annotations

import qcow2crypt
from qcow2crypt.cli.createopts import CreateOptions, help_lines, read_create_options, wants_help
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import check_format, name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    HELP,
    OBJECT,
    QUIET,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.targets import (
    CREATE_OPTIONS,
    OLD_ENCRYPTION,
    new_image,
    warn_if_name_misleads,
    with_old_encryption,
)
from qcow2crypt.cli.terminal import Console, printable

USAGE = "qcow2crypt create [options] FILE SIZE"
ABOUT = """\
Make an empty image FILE of SIZE bytes; the suffixes k, M, G, T, P and E are powers of 1024.
Without -f it is raw, as with qemu-img.  The passphrase of a new encrypted image is asked for
twice on the terminal, unless an option names it.

  qcow2crypt create -f qcow2 disk.qcow2 10G
  qcow2crypt create -f qcow2 -o encrypt.format=aes --secret-file key old.qcow2 10G

Encryption here is the legacy AES of QEMU, which is broken by design: use it for old readers and
for tests, never to protect anything.
"""
_BACKING = "backing files"
OPTIONS = (
    source_format("the format of FILE: raw (default) or qcow2"),
    CREATE_OPTIONS,
    *secret_options("", "FILE"),
    *secret_options("target-", "FILE"),
    STRIP_NEWLINE,
    OBJECT,
    OLD_ENCRYPTION,
    QUIET,
    Option("u", "u", about="no effect: there is no backing file to leave unopened"),
    HELP,
    Option("b", "b", metavar="FILE", refused=_BACKING),
    Option("F", "F", metavar="FMT", refused=_BACKING),
)


def run(arguments: Arguments, console: Console) -> int:
    """Make the image.  Raises what the library raises."""
    given_format = arguments.last("format")
    format_name = check_format(given_format or "raw", what="-f")
    texts = arguments.all("o")
    if wants_help(texts):
        for line in help_lines(format_name):
            console.out(line)
        return 0
    if not arguments.operands:
        raise UsageError("create takes the name of the new image")
    if len(arguments.operands) > 2:
        raise UsageError("create takes the name of one image and its size, no more")
    objects = read_objects(arguments.all("object"), console)
    path = name_image(arguments.operands[0], image_opts=False, given_format=None).path
    wanted = read_create_options(with_old_encryption(texts, arguments), format_name)
    size = _size(arguments, wanted)
    warn_if_name_misleads(path, given_format, console)
    target = new_image(
        path, wanted, arguments, ("secret", "target-secret"), objects=objects, console=console
    )
    if not console.quiet:
        console.out(f"Formatting '{printable(arguments.operands[0])}', {wanted.described(size)}")
    qcow2crypt.create(path, size, format=format_name, secret=target.secret, options=target.options)
    return 0


def _size(arguments: Arguments, wanted: CreateOptions) -> int:
    """The size from the second operand or from -o, exactly once.  Raises CommandError."""
    operand = arguments.operands[1] if len(arguments.operands) > 1 else None
    if operand is not None and wanted.size is not None:
        raise CommandError("the size is given twice: behind the name and with -o size")
    size = wanted.size if operand is None else parse_size(operand, what="size")
    if size is None:
        raise CommandError("create needs a size behind the name of the image: 10G, for example")
    return size
