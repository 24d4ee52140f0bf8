"""Which image a word of the command line names: a path, image options, or ``json:{...}``.

Joins QEMU's words for images (``qcow2crypt.image.names``) with -f and --image-opts; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.qemuopts import parse_bool, parse_options
from qcow2crypt.cli.terminal import printable
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image import names, qemujson
from qcow2crypt.image.names import LayerOptions

if TYPE_CHECKING:
    from qcow2crypt.tasks.creation import TargetFormat

FORMATS = ("qcow2", "raw")
"""The formats that this package writes, in qemu-img's words."""


class ImageName(NamedTuple):
    """An image as the command line names it.  ``format`` None means: look at the file.

    ``key_secret`` is the id of an ``--object secret``; ``encrypt_format`` what the header must
    say; ``text`` what was typed; ``options`` all that was said, of the layers below too.
    """

    text: str
    path: str
    format: str | None = None
    key_secret: str | None = None
    encrypt_format: str | None = None
    read_only: bool = False
    options: LayerOptions = LayerOptions()

    @property
    def shown(self) -> str:
        """The path, safe to show."""
        return printable(self.path)


def check_format(name: str, *, what: str) -> TargetFormat:
    """``name`` if this package writes the format.  Raises CommandError with the list."""
    with _as_command_error():
        names.check_format(name, what=what, allowed=FORMATS)
    return "qcow2" if name == "qcow2" else "raw"


def check_backing_format(name: str) -> None:
    """Refuse a format of a backing file that this package does not read.  Raises CommandError."""
    with _as_command_error():
        names.check_format(name, what="the format of the backing file,")


def name_image(text: str, *, image_opts: bool, given_format: str | None) -> ImageName:
    """What ``text`` names: options with ``--image-opts``, else a path or ``json:{...}``.

    ``given_format`` is the value of -f or -O.  Raises CommandError.
    """
    with _as_command_error():
        options = _options(text, image_opts=image_opts, given_format=given_format)
    return ImageName(
        text,
        options.path or "",
        options.format,
        options.key_secret,
        options.encrypt_format,
        options.read_only,
        options,
    )


def _options(text: str, *, image_opts: bool, given_format: str | None) -> LayerOptions:
    if image_opts:
        if given_format is not None:
            raise CommandError(
                "--image-opts and a format option exclude each other: write driver=FORMAT"
            )
        what = "--image-opts"
        flat = parse_options(text, what=what, implied_key="file", flags=True)
    else:
        if given_format is not None:
            names.check_format(given_format, what="format")
        if not text.startswith(names.JSON):
            return LayerOptions(path=names.local_path(text), format=given_format)
        what = "json: file name"
        flat = qemujson.parse_object(text[len(names.JSON) :], what=what, nulls=("backing",))
    if "read-only" in flat:  # on the command line there are more words for yes and no
        on = parse_bool(flat["read-only"], what=f"{what}: read-only")
        flat["read-only"] = "on" if on else "off"
    return names.layer_options(flat, what=what, given_format=given_format)


@contextmanager
def _as_command_error() -> Iterator[None]:
    """An argument that cannot be is, here, a command line that cannot be."""
    try:
        yield
    except ArgumentError as error:
        raise CommandError(printable(str(error))) from None


def check_encryption(image: ImageName, found: str | None) -> None:
    """Compare ``encrypt.format`` of the image options with the encryption that the header names.

    Raises CommandError when they differ, as QEMU does.
    """
    wanted = image.encrypt_format
    if wanted not in (None, found):
        header = "is not encrypted" if found is None else f"is encrypted as '{found}'"
        raise CommandError(
            f"'{image.shown}' {header}, but encrypt.format={printable(str(wanted))} is given"
        )
