"""``qcow2crypt create``: a new empty image."""

from __future__ import annotations

import qcow2crypt
from qcow2crypt.cli.createopts import (
    CreateOptions,
    help_lines,
    read_create_options,
    wants_help,
    with_backing,
)
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import check_backing_format, check_format, name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import external_of
from qcow2crypt.cli.options import (
    EXTERNAL,
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

USAGE = "qcow2crypt create [options] FILE [SIZE]"
ABOUT = """\
Make an empty image FILE of SIZE bytes; the suffixes k, M, G, T, P and E are powers of 1024.
Without -f it is raw, as with qemu-img.  The passphrase of a new encrypted image is asked for
twice on the terminal, unless an option names it.

With -b the new image shows another one until it is written to; without SIZE it is as large.

  qcow2crypt create -f qcow2 disk.qcow2 10G
  qcow2crypt create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  qcow2crypt create -f qcow2 -o encrypt.format=aes --secret-file key old.qcow2 10G

Encryption here is the legacy AES of QEMU, which is broken by design: use it for old readers and
for tests, never to protect anything.
"""
OPTIONS = (
    source_format("the format of FILE: raw (default) or qcow2"),
    CREATE_OPTIONS,
    *secret_options("", "FILE"),
    *secret_options("target-", "FILE"),
    STRIP_NEWLINE,
    OBJECT,
    OLD_ENCRYPTION,
    QUIET,
    Option("b", "b", metavar="BASE", about="the backing file; a relative name starts from FILE"),
    Option("F", "F", metavar="FMT", about="the format of the backing file; -b needs it"),
    Option("u", "u", about="do not look at the backing file, which may not be there yet"),
    EXTERNAL,
    HELP,
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
    wanted = with_backing(
        read_create_options(with_old_encryption(texts, arguments), format_name),
        arguments.last("b"),
        arguments.last("F"),
        option="-b" if arguments.flag("b") else "-F",
    )
    size = _size(arguments, wanted)
    warn_if_name_misleads(path, given_format, console)
    target = new_image(
        path, wanted, arguments, ("secret", "target-secret"), objects=objects, console=console
    )
    size = _looked_up(path, size, wanted, arguments)
    if not console.quiet:
        console.out(f"Formatting '{printable(arguments.operands[0])}', {wanted.described(size)}")
    qcow2crypt.create(
        path,
        size,
        format=format_name,
        secret=target.secret,
        options=target.options,
        open_backing=False,
    )
    return 0


def _size(arguments: Arguments, wanted: CreateOptions) -> int | None:
    """The size from the second operand or from -o, if it is given.  Raises CommandError."""
    operand = arguments.operands[1] if len(arguments.operands) > 1 else None
    if operand is not None and wanted.size is not None:
        raise CommandError("the size is given twice: behind the name and with -o size")
    return wanted.size if operand is None else parse_size(operand, what="size")


def _looked_up(path: str, size: int | None, wanted: CreateOptions, arguments: Arguments) -> int:
    """Look at the backing file, which may give the size.  Raises CommandError, and what opening
    raises.
    """
    from qcow2crypt.tasks.creation import backing_size

    if wanted.backing is not None:
        name, image_format = wanted.backing
        external = external_of(arguments)
        if image_format is None:
            raise CommandError(
                f"the backing file '{printable(name)}' needs its format: -F raw or -F qcow2. A "
                "format that is guessed could be the choice of whoever wrote to the disk"
            )
        check_backing_format(image_format)
        if not arguments.flag("u"):
            found = backing_size(path, name, image_format, external=external)
            size = found if size is None else size
    if size is None:
        raise CommandError(
            "create needs a size behind the name of the image (10G, for example), or a backing "
            "file to take it from"
        )
    return size
