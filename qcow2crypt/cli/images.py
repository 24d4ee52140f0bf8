"""Which image a word of the command line names: a path, image options, or ``json:{...}``.

Knows QEMU's words for images, opens nothing.  Keys that only tune QEMU's caches and locks are
taken and have no effect; keys that would change what is read are refused by name until they are
supported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.qemujson import parse_object
from qcow2crypt.cli.qemuopts import parse_bool, parse_options
from qcow2crypt.cli.terminal import printable

if TYPE_CHECKING:
    from qcow2crypt.creation import TargetFormat

FORMATS = ("qcow2", "raw")
"""The formats of this package, in qemu-img's words."""

_OTHER_FORMATS = re.compile("bochs|cloop|dmg|luks|parallels|qcow|qed|vdi|vhdx|vmdk|vpc|vvfat")
_PROTOCOL = re.compile(
    r"(fat|ftps?|gluster(?:\+\w+)?|https?|iscsi|iser|nbd(?:\+\w+)?|nfs|nvme|rbd|ssh|tftp|vxhs"
    r"|blkdebug|blklogwrites|blkverify|null-aio|null-co|quorum|sheepdog):"
)
_FILE_DRIVERS = ("file", "host_device")
# Tuning of QEMU's block layer: the bytes that are read do not depend on it.
_NO_EFFECT = re.compile(
    r"(?:file\.)?(?:node-name|discard|detect-zeroes|auto-read-only|force-share|cache\.direct"
    r"|cache\.no-flush|read-only)"
    r"|lazy-refcounts|overlap-check(?:\..+)?|pass-discard-(?:request|snapshot|other)|cache-size"
    r"|l2-cache-size|l2-cache-entry-size|refcount-cache-size|cache-clean-interval|discard-no-unref"
    r"|file\.(?:locking|aio|aio-max-batch|drop-cache|x-check-cache-dropped|pr-manager)"
)
_NOT_YET = {
    "backing": "backing files",
    "data-file": "external data files",
    "offset": "a part of a raw file",
    "size": "a part of a raw file",
}


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image as the command line names it.  ``format`` None means: look at the file.

    ``key_secret`` is the id of an ``--object secret``; ``encrypt_format`` what the header must
    say; ``text`` what was typed.
    """

    text: str
    path: str
    format: str | None = None
    key_secret: str | None = None
    encrypt_format: str | None = None
    read_only: bool = False

    @property
    def shown(self) -> str:
        """The path, safe to show."""
        return printable(self.path)


def check_format(name: str, *, what: str) -> TargetFormat:
    """``name`` if this package knows the format.  Raises CommandError with the list."""
    if name == "qcow2":
        return "qcow2"
    if name == "raw":
        return "raw"
    reason = "is not supported yet" if _OTHER_FORMATS.fullmatch(name) else "is unknown"
    raise CommandError(f"{what} '{printable(name)}' {reason}; supported: {', '.join(FORMATS)}")


def name_image(text: str, *, image_opts: bool, given_format: str | None) -> ImageName:
    """What ``text`` names: options with ``--image-opts``, else a path or ``json:{...}``.

    ``given_format`` is the value of -f or -O.  Raises CommandError.
    """
    if image_opts:
        if given_format is not None:
            raise CommandError(
                "--image-opts and a format option exclude each other: write driver=FORMAT"
            )
        options = parse_options(text, what="--image-opts", implied_key="file", flags=True)
        return _from_options(text, options, "--image-opts", None)
    if given_format is not None:
        check_format(given_format, what="format")
    if text.startswith("json:"):
        options = parse_object(text[len("json:") :], what="json: file name")
        return _from_options(text, options, "json: file name", given_format)
    return ImageName(text, _local_path(text), given_format)


def _local_path(text: str) -> str:
    path = text.removeprefix("file:")
    protocol = _PROTOCOL.match(text)
    if protocol:
        raise CommandError(
            f"'{protocol[0]}' is not supported yet: only local files can be opened "
            f"(a file of that name: './{printable(text)}')"
        )
    if not path:
        raise CommandError("the file name is empty")
    if "\0" in path:
        raise CommandError("the file name holds a NUL character")
    return path


def _from_options(text: str, options: dict[str, str], what: str, given: str | None) -> ImageName:
    """Read the options of one image.  ``given`` is -f, which goes before ``driver``."""
    rest = dict(options)
    if "file" in rest:
        raise CommandError(f"{what}: name the file with file.filename=PATH")
    driver = rest.pop("driver", None)
    if driver in _FILE_DRIVERS:
        # The file layer alone: its bytes are the guest disk.
        rest = {f"file.{key}": value for key, value in rest.items()} | {"file.driver": driver}
        driver = "raw"
    if driver is not None:
        check_format(driver, what=f"{what}: driver")
    image_format = given or driver
    file_driver = rest.pop("file.driver", "file")
    if file_driver not in _FILE_DRIVERS:
        raise CommandError(f"{what}: file.driver '{printable(file_driver)}' is not supported yet")
    path = rest.pop("file.filename", None)
    if path is None:
        raise CommandError(f"{what}: file.filename=PATH is missing")
    key_secret = encrypt_format = None
    if image_format != "raw":
        key_secret = rest.pop("encrypt.key-secret", None)
        encrypt_format = rest.pop("encrypt.format", None)
    read_only = parse_bool(rest.get("read-only", "off"), what=f"{what}: read-only")
    for key in rest:
        _check_rest(key, what)
    return ImageName(text, _local_path(path), image_format, key_secret, encrypt_format, read_only)


def _check_rest(key: str, what: str) -> None:
    if _NO_EFFECT.fullmatch(key):
        return
    first = key.partition(".")[0]
    if first in _NOT_YET:
        raise CommandError(f"{what}: '{printable(key)}' is not supported yet ({_NOT_YET[first]})")
    raise CommandError(f"{what}: unknown option '{printable(key)}'")


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
