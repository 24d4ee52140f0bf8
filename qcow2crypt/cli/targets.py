"""What ``create`` and ``convert`` share: the format, the options and the passphrase of a new image.

Knows the words of the command line for a target; writes nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.cli.createopts import CreateOptions
from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.objects import SecretObject
from qcow2crypt.cli.options import Arguments, Option
from qcow2crypt.cli.passphrases import (
    Passphrase,
    PromptedPassphrase,
    check_new,
    given_passphrase,
)
from qcow2crypt.cli.qemuopts import parse_bool
from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.image.names import path_beside

if TYPE_CHECKING:
    from qcow2crypt.tasks.creation import TargetFormat, TargetOptions

OLD_ENCRYPTION = Option("e", "e", about="old word for -o encrypt.format=aes")
CREATE_OPTIONS = Option("o", "o", metavar="OPTIONS", about="what the new image is like; -o help")


class TargetImage(NamedTuple):
    """A target in the library's words.  ``options`` is None for raw and for one that exists."""

    path: str
    format: TargetFormat
    options: TargetOptions
    secret: Passphrase | None


def new_image(
    path: str,
    wanted: CreateOptions,
    arguments: Arguments,
    prefixes: tuple[str, ...],
    *,
    objects: dict[str, SecretObject],
    console: Console,
) -> TargetImage:
    """Join -o with the passphrase that goes with it.

    A passphrase without a word about encryption is an error, encryption without a passphrase a
    prompt.  Raises CommandError and ArgumentError.
    """
    given = given_passphrase(
        arguments, prefixes, key_secret=wanted.key_secret, objects=objects, console=console
    )
    if not wanted.encrypted:
        if given is not None:
            raise CommandError(
                f"a passphrase for '{printable(path)}' is given ({given.origin}), but no "
                "encryption: add -O qcow2 -o encrypt.format=aes (for create: -f qcow2)"
            )
        _warn_of_data_file(path, wanted, console)
        return TargetImage(path, wanted.format, wanted.target_options(), None)
    options = wanted.target_options()
    _warn_of_data_file(path, wanted, console)
    if given is not None:
        check_new(given(), given.origin)
    secret = given or PromptedPassphrase(
        printable(path), f"--{prefixes[0]}", new=True, console=console, objects=objects
    )
    return TargetImage(path, wanted.format, options, secret)


def _warn_of_data_file(path: str, wanted: CreateOptions, console: Console) -> None:
    """Say what QEMU does in silence, and what surprises later."""
    name = wanted.given.get("data_file")
    if name is None:
        return
    if os.path.realpath(path_beside(path, name)) != os.path.realpath(name):
        console.warn(
            f"QEMU looks for the data file '{printable(name)}' in the directory that it is run "
            f"in, not beside '{printable(path)}': a full path is found from everywhere"
        )
    raw = parse_bool(wanted.given.get("data_file_raw", "off"), what="-o data_file_raw")
    if wanted.encrypted and raw:
        console.warn(
            f"data_file_raw: the data file '{printable(name)}' is encrypted like the image, so it "
            "is no raw image of the disk"
        )


def with_old_encryption(texts: list[str], arguments: Arguments) -> list[str]:
    """The -o values; ``-e`` of old QEMU is the option ``encryption``."""
    return [*texts, "encryption=on"] if arguments.flag("e") else texts


def warn_if_name_misleads(path: str, format_name: str | None, console: Console) -> None:
    """Say that raw is written under a name that promises qcow2: qemu-img does it in silence."""
    if format_name is None and path.lower().endswith((".qcow2", ".qcow", ".qc2")):
        console.warn(
            f"'{printable(path)}' becomes a raw image whatever its name says, as with qemu-img; "
            "name the format for qcow2"
        )
