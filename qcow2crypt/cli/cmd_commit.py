"""``qcow2crypt commit``: bring the data of an overlay down into its backing file."""

from __future__ import annotations

from qcow2crypt.cli.failures import UsageError
from qcow2crypt.cli.images import name_image
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
    secret_options,
    source_format,
)
from qcow2crypt.cli.progress import PROGRESS_OPTIONS, progress, progress_mode
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt commit [options] FILE"
ABOUT = """\
Write what the overlay FILE has into its backing file, and empty FILE.  Each layer keeps its own
encryption and passphrase.  With -b the data goes to another file of the chain; then, and with -d,
FILE stays as it is.

  qcow2crypt commit overlay.qcow2
  qcow2crypt commit --secret-file top.key --layer-secret-file 1=base.key overlay.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    Option("b", "b", metavar="BASE", about="the file of the chain to write to; implies -d"),
    Option("d", "d", about="do not empty FILE afterwards"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    *PROGRESS_OPTIONS,
    QUIET,
    Option("t", "t", metavar="CACHE", about="no effect on the result: QEMU's cache"),
    Option("r", "r", metavar="RATE", about="no effect on the result: QEMU's rate limit"),
    HELP,
)


def run(arguments: Arguments, console: Console) -> int:
    """Commit.  Raises what the library raises."""
    if len(arguments.operands) != 1:
        raise UsageError("commit takes the name of one image")
    check_cache(arguments, "t")
    for rate in arguments.all("r"):
        parse_size(rate, what="-r")
    mode = progress_mode(arguments)
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    from qcow2crypt.tasks.committing import commit_layers, is_base

    base = arguments.last("b")
    keep = arguments.flag("d") or base is not None
    with (
        open_named(
            name,
            arguments,
            objects,
            console,
            mode="r" if keep else "r+",
            writes=is_base(base),
        ) as image,
        progress(mode, "commit") as report,
    ):
        commit_layers(image, keep=keep, base=base, progress=report)
    if not console.quiet:
        console.out("Image committed.")
    return 0
