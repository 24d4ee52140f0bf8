"""``qcow2crypt resize``: give the guest disk of an image another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    QUIET,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.sizes import SIZE_MAX, parse_size
from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.units import SECTOR_SIZE, align_up

if TYPE_CHECKING:
    from qcow2crypt.tasks.resizing import Preallocation

USAGE = "qcow2crypt resize [options] FILE [+|-]SIZE"
ABOUT = """\
Give the guest disk of FILE another size, or with + and - let it grow or shrink by SIZE.  What is
added reads as zeros, in an encrypted image too.  Shrinking needs --shrink: it ends what is behind.

  qcow2crypt resize disk.qcow2 +10G
  qcow2crypt resize --shrink disk.qcow2 512M
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    Option("shrink", name="shrink", about="allow a smaller size: the data behind it is lost"),
    Option(
        "preallocation",
        name="preallocation",
        metavar="MODE",
        about="for what is added: off (default), metadata, falloc or full",
    ),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    QUIET,
    HELP,
)


def arrange(words: list[str]) -> list[str]:
    """The last word is the size, even if it begins with a minus."""
    if "--" in words or not words or not words[-1][1:2].isdigit():
        return words
    return [*words[:-1], "--", words[-1]]


def run(arguments: Arguments, console: Console) -> int:
    """Change the size.  Raises what the library raises."""
    if len(arguments.operands) != 2:
        raise UsageError("resize takes the name of one image and its new size")
    text = arguments.operands[1]
    sign = text[0] if text[:1] in ("+", "-") else ""
    amount = parse_size(text[len(sign) :], what="size")
    mode = _mode(arguments.last("preallocation") or "off")
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    with open_named(name, arguments, objects, console, mode="r+") as image:
        change = {"+": amount, "-": -amount}
        size = image.size + change[sign] if sign else amount
        if not 0 < size <= SIZE_MAX:
            raise CommandError(f"the new size must be 1 to {SIZE_MAX} bytes")
        if image.format == "raw":
            size = align_up(size, SECTOR_SIZE)
        if size < image.size and not arguments.flag("shrink"):
            raise CommandError(
                f"the disk of '{name.shown}' has {image.size} bytes, and {size} are less: all data "
                "behind the new end would be lost. If that is wanted, add --shrink"
            )
        if size <= image.size and mode != "off":
            raise CommandError("--preallocation is for images that grow")
        from qcow2crypt.tasks.resizing import resize

        resize(image, size, preallocation=mode)
    if not console.quiet:
        console.out("Image resized.")
    return 0


def _mode(text: str) -> Preallocation:
    """The value of --preallocation.  Raises CommandError."""
    modes: dict[str, Preallocation] = {
        "off": "off",
        "metadata": "metadata",
        "falloc": "falloc",
        "full": "full",
    }
    if text not in modes:
        raise CommandError(f"--preallocation is {', '.join(modes)}: not '{printable(text)}'")
    return modes[text]
