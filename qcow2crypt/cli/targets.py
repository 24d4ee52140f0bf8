"""What ``create`` and ``convert`` share: the format, the options and the passphrase of a new image.

Knows the words of the command line for a target; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from qcow2crypt.cli.terminal import Console, printable

if TYPE_CHECKING:
    from qcow2crypt import Qcow2Options
    from qcow2crypt.creation import TargetFormat

OLD_ENCRYPTION = Option("e", "e", about="old word for -o encrypt.format=aes")
CREATE_OPTIONS = Option("o", "o", metavar="OPTIONS", about="what the new image is like; -o help")


@dataclass(frozen=True, slots=True)
class TargetImage:
    """A target in the library's words.  ``options`` is None for raw and for one that exists."""

    path: str
    format: TargetFormat
    options: Qcow2Options | None
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
        options = wanted.library_options() if wanted.format == "qcow2" else None
        return TargetImage(path, wanted.format, options, None)
    if given is not None:
        check_new(given(), given.origin)
    secret = given or PromptedPassphrase(
        printable(path), f"--{prefixes[0]}", new=True, console=console, objects=objects
    )
    return TargetImage(path, wanted.format, wanted.library_options(), secret)


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
