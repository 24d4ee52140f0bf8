"""Open the images of a command that only reads: ``compare``, ``measure`` and ``dd``.

And look at a source, with its passphrase, before long work is done with it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import qcow2crypt
from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.images import check_encryption, name_image
from qcow2crypt.cli.objects import SecretObject
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.qemuopts import parse_options
from qcow2crypt.cli.terminal import Console, printable

if TYPE_CHECKING:
    from qcow2crypt import Image


def open_source(
    text: str,
    arguments: Arguments,
    objects: dict[str, SecretObject],
    console: Console,
    *,
    format_key: str = "format",
    prefix: str = "secret",
) -> Image:
    """Open the image that ``text`` names, with all that is under it.

    ``format_key`` is the option with its format, ``prefix`` begins the options with its
    passphrase.  Without one it is asked for.  Raises CommandError and what the library raises.
    """
    name = name_image(
        text,
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last(format_key),
    )
    if name.encrypt_format is not None:
        check_encryption(name, qcow2crypt.info(name.path, format=name.format).encryption)
    return open_named(name, arguments, objects, console, prefix=prefix)


def snapshot_of(image: Image, text: str, images: ExitStack) -> Image:
    """The disk at the time of a snapshot, named as -l names it.  ``images`` closes it.

    ``text`` is an id or a name, or ``snapshot.id=ID,snapshot.name=NAME``.  Raises CommandError.
    """
    wanted = text
    if text.startswith("snapshot."):
        options = parse_options(text, what="-l")
        unknown = options.keys() - {"snapshot.id", "snapshot.name"}
        if unknown:
            raise CommandError(f"-l: '{printable(min(unknown))}' is unknown")
        wanted = _find(image, options.get("snapshot.id"), options.get("snapshot.name"))
    return images.enter_context(image.snapshot(wanted))


def _find(image: Image, identifier: str | None, name: str | None) -> str:
    for snapshot in image.snapshots():
        if identifier in (None, snapshot.id) and name in (None, snapshot.name):
            return snapshot.id
    raise CommandError("-l: the image has no snapshot of that id and name")


def look_at_source(image: Image, console: Console) -> None:
    """Look at the source before the work: a wrong passphrase should be seen now, not at the end.

    What reading raises is left to the conversion, which says where.
    """
    if console.quiet or not image.encrypted:
        return
    from qcow2crypt.errors import Qcow2CryptError
    from qcow2crypt.tasks.plausible import look_at

    try:
        look = look_at(image)
    except Qcow2CryptError:
        return
    if not look.plausible:
        console.warn(
            f"with this passphrase '{printable(image.name)}' does not look like a disk: no "
            "partition table, no file system, nothing but noise. Legacy AES cannot tell a wrong "
            "passphrase: compare it letter by letter, look for a newline at its end or another "
            "keyboard layout. (A disk that the guest itself encrypted looks like this too)"
        )
