"""``qcow2crypt snapshot``: list, make, apply and delete internal snapshots.

Needs no passphrase: tables are never encrypted, and no guest byte is looked at.
"""

from __future__ import annotations

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import (
    EXTERNAL,
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    QUIET,
    Arguments,
    Option,
)
from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.errors import SnapshotNotFoundError

USAGE = "qcow2crypt snapshot [options] [-l | -a SNAPSHOT | -c NAME | -d NAME] FILE"
ABOUT = """\
List the internal snapshots of FILE, keep its disk as a new one, go back to one, or delete one.
SNAPSHOT is an id or a name; -d takes names only, as in qemu-img.  A crash in the middle leaves the
image as it was, or as it was to be.  Needs no passphrase.

  qcow2crypt snapshot -c before-update disk.qcow2
  qcow2crypt snapshot -l disk.qcow2
  qcow2crypt snapshot -a before-update disk.qcow2
"""
OPTIONS = (
    Option("l", "l", about="list the snapshots"),
    Option("a", "a", metavar="SNAPSHOT", about="apply: content and size as they were then"),
    Option("c", "c", metavar="NAME", about="create a snapshot of the disk as it is now"),
    Option("d", "d", metavar="NAME", about="delete the first snapshot of that name"),
    OBJECT,
    IMAGE_OPTS,
    EXTERNAL,
    QUIET,
    FORCE_SHARE,
    HELP,
)


def run(arguments: Arguments, console: Console) -> int:
    """Do what is asked for.  Raises what the library raises."""
    asked = [(letter, value) for letter in "lacd" for value in arguments.all(letter)]
    if len(asked) > 1:
        raise UsageError("snapshot takes one of -l, -a, -c and -d, and takes it once")
    if len(arguments.operands) != 1:
        raise UsageError("snapshot takes the name of one image")
    letter, value = asked[0] if asked else ("", "")
    changes = letter in ("a", "c", "d")
    if changes and arguments.flag("force-share"):
        raise CommandError("-U is for reading: an image that is changed is nobody else's meanwhile")
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0], image_opts=arguments.flag("image-opts"), given_format=None
    )
    mode = "r+" if changes else "r"
    with open_named(name, arguments, objects, console, mode=mode, tables_only=True) as image:
        if letter == "c":
            image.create_snapshot(value)
        elif letter == "a":
            image.apply_snapshot(value)
        elif letter == "d":
            if all(snapshot.name != value for snapshot in image.snapshots()):
                # As qemu-img: an id that is taken for a name must not cost a snapshot.
                known = ", ".join(repr(snapshot.name) for snapshot in image.snapshots())
                raise SnapshotNotFoundError(
                    f"'{name.shown}' has no snapshot of the name '{printable(value)}' (-d takes no "
                    f"id); it has: {printable(known) or 'none'}"
                )
            image.delete_snapshot(value)
        elif letter == "l":
            from qcow2crypt.cli.output_human import snapshot_lines

            for line in snapshot_lines(image.info().as_dict().get("snapshots") or ()):
                console.out(line)
    return 0
