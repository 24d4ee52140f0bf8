"""``qcow2crypt rebase``: put another backing file under an overlay, or none."""

from __future__ import annotations

from contextlib import ExitStack

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import ImageName, name_image
from qcow2crypt.cli.manner import check_cache
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
    layer_secret_options,
    secret_options,
    source_format,
)
from qcow2crypt.cli.progress import PROGRESS_OPTIONS, progress, progress_mode
from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.image import names

USAGE = "qcow2crypt rebase [options] [-u] -b BASE [-F FMT] FILE"
ABOUT = """\
Let the overlay FILE have another backing file BASE, a name beside FILE; '' for none.  What BASE
shows otherwise than the old backing file is copied into FILE first, so the disk stays what it is.
With -u nothing is read and copied: only the name in FILE changes.

  qcow2crypt rebase -b new.qcow2 -F qcow2 overlay.qcow2
  qcow2crypt rebase -b '' overlay.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    Option("b", "b", metavar="BASE", about="the new backing file; '' makes FILE stand alone"),
    Option("F", "F", metavar="FMT", about="the format of BASE, which FILE then says"),
    Option("u", "u", about="unsafe: change the name only, and trust that the content is the same"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    *secret_options("new-", "BASE"),
    *layer_secret_options("new-", "BASE"),
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    *PROGRESS_OPTIONS,
    QUIET,
    Option("t", "t", metavar="CACHE", about="no effect on the result: QEMU's cache"),
    Option("T", "T", metavar="CACHE", about="the same, of the backing files"),
    HELP,
)
_MORE_FORMATS = ("bochs", "cloop", "dmg", "luks", "parallels", "qed", "vdi", "vhdx", "vmdk", "vpc")


def run(arguments: Arguments, console: Console) -> int:
    """Change the backing file.  Raises what the library raises."""
    if len(arguments.operands) != 1:
        raise UsageError("rebase takes the name of one image")
    check_cache(arguments, "t")
    check_cache(arguments, "T")
    base, base_format = arguments.last("b"), arguments.last("F")
    unsafe = arguments.flag("u")
    if base is None and not unsafe:
        raise UsageError("rebase needs the new backing file (-b), or -u to name none")
    _check_format(base_format)
    mode = progress_mode(arguments)
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    from qcow2crypt.tasks.rebasing import check_new_backing, rebase, set_backing

    if base and not base_format:
        raise CommandError(f"-F must name the format of the backing file '{printable(base)}'")
    if unsafe:
        set_backing(name.path, base, base_format)
        return 0
    with ExitStack() as images:
        image = images.enter_context(open_named(name, arguments, objects, console, mode="r+"))
        new = None
        if base:
            check_new_backing(image, base, base_format)
            new = open_named(
                _new_name(name, base, base_format), arguments, objects, console, prefix="new-secret"
            )
            images.callback(new.close)
        with progress(mode, "rebase") as report:
            rebase(image, new, name=base, backing_format=base_format, progress=report)
    return 0


def _check_format(base_format: str | None) -> None:
    if base_format is not None and base_format not in (*names.READABLE, *_MORE_FORMATS):
        raise CommandError(f"-F: the format '{printable(base_format)}' is unknown")


def _new_name(overlay: ImageName, base: str, base_format: str | None) -> ImageName:
    """The new backing file, whose name is relative to the overlay, as the overlay will read it."""
    if base.startswith(names.JSON):
        return name_image(base, image_opts=False, given_format=base_format)
    path = names.path_beside(overlay.path, base)
    return name_image(path, image_opts=False, given_format=base_format)
