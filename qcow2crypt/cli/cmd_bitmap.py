"""``qcow2crypt bitmap``: list the persistent dirty bitmaps of an image."""

from __future__ import annotations

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    Arguments,
    Option,
    source_format,
)
from qcow2crypt.cli.terminal import Console, printable

USAGE = "qcow2crypt bitmap --list [options] FILE"
ABOUT = """\
List the dirty bitmaps of FILE: name, granularity in bytes, flags (auto: it records writes; in-use:
it was not saved and is not to be believed).  Needs no passphrase.  qemu-img, which makes and
changes bitmaps, has no such list; 'info' shows them, too.

  qcow2crypt bitmap --list disk.qcow2
"""
_CHANGES = "bitmaps are listed and kept, not changed: use qemu-img for that"
OPTIONS = (
    Option("list", name="list", about="list the bitmaps"),
    source_format("the format of FILE; without it the first bytes decide"),
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    HELP,
    *(
        Option(name, name=name, refused=_CHANGES)
        for name in ("add", "remove", "clear", "enable", "disable")
    ),
    Option("merge", name="merge", metavar="BITMAP", refused=_CHANGES),
    Option("g", "g", "granularity", "SIZE", refused=_CHANGES),
    Option("b", "b", "source-file", "FILE", refused=_CHANGES),
    Option("F", "F", "source-format", "FMT", refused=_CHANGES),
)


def run(arguments: Arguments, console: Console) -> int:
    """Print one line for each bitmap.  Raises what the library raises."""
    if not arguments.flag("list"):
        raise CommandError(f"bitmap needs --list; {_CHANGES}")
    if len(arguments.operands) != 1:
        raise UsageError("bitmap --list takes the name of one image")
    read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    from qcow2crypt.image.describe import describe

    found = describe(name.path, format=name.format, force_share=arguments.flag("force-share"))
    for row in found.specific.get("bitmaps", ()):
        flags = ",".join(row["flags"]) or "-"
        console.out(f"{printable(row['name'])}\t{row['granularity']}\t{flags}")
    return 0
