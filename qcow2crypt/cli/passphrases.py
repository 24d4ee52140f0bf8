"""Which passphrase opens the source, which one protects the target, and the prompt for both.

Joins --object, --secret-file and the terminal into one callable that the library calls when,
and only when, an image is encrypted.  Knows the 16 bytes of legacy AES, nothing else of ciphers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection
from typing import TypeAlias

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.objects import SecretObject, is_qemu_text
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.secretfiles import (
    read_secret_env,
    read_secret_fd,
    read_secret_file,
    read_secret_stdin,
    strip_newline,
)
from qcow2crypt.cli.terminal import Console, printable

AES_KEY_BYTES = 16


Passphrase: TypeAlias = Callable[[], bytes]
"""What this module hands to the library as a secret."""


class GivenPassphrase:
    """A passphrase from a file, a descriptor, the environment or an object.

    ``problem`` is why it cannot be used.  It comes up only when the passphrase is needed: as in
    QEMU, an image that is not encrypted ignores whatever is given for it.
    The repr does not show the value.
    """

    __slots__ = ("_console", "_from_file", "_problem", "_used", "origin", "value")

    def __init__(
        self, origin: str, value: bytes, *, from_file: bool, console: Console, problem: str = ""
    ) -> None:
        self.origin = origin
        self.value = value
        self._from_file = from_file
        self._console = console
        self._problem = problem
        self._used = False

    def __call__(self) -> bytes:
        """The bytes.  At the first use, warns of what most often makes a passphrase wrong.

        Raises CommandError.
        """
        if self._problem:
            raise CommandError(self._problem)
        if not self._used:
            self._used = True
            if self._from_file and self.value.endswith(b"\n"):
                self._console.warn(
                    f"the passphrase from {self.origin} ends in a newline, which counts; "
                    "--secret-strip-newline drops it"
                )
            warn_if_long(self.value, self.origin, self._console)
        return self.value


class PromptedPassphrase:
    """A passphrase that a person types, once, when it is first needed.  Not in the repr."""

    __slots__ = ("console", "image", "layer", "new", "objects", "option", "value")

    def __init__(
        self,
        image: str,
        option: str,
        *,
        new: bool,
        console: Console,
        objects: Collection[str] = (),
        layer: str = "",
    ) -> None:
        self.image = image
        self.option = option
        self.new = new
        self.console = console
        self.objects = objects
        self.layer = layer
        self.value: bytes | None = None

    def __call__(self) -> bytes:
        """Ask on the terminal, twice for a new passphrase.  Raises CommandError."""
        if self.value is None:
            if not has_terminal():
                raise CommandError(self._no_terminal())
            self.value = self._ask()
            warn_if_long(self.value, "the prompt", self.console)
        return self.value

    def _no_terminal(self) -> str:
        spelling = f"{self.option}-file, {self.option}-fd or {self.option}-env"
        if self.layer:
            spelling = (
                f"{self.option}-file {self.layer}=PATH, {self.option}-fd {self.layer}=N or "
                f"{self.option}-env {self.layer}=NAME"
            )
        message = (
            f"{self._shown} needs a passphrase and there is no terminal to ask on; give it with "
            f"{spelling}"
        )
        if not self.objects:
            return message
        where = "-o" if self.new else "--image-opts"
        ids = " or ".join(self.objects)
        depth = int(self.layer) if self.layer.isdecimal() else 0
        key = "backing." * depth + "encrypt.key-secret"
        return f"{message}, or name the secret {ids} for it: {where} {key}=..."

    @property
    def _shown(self) -> str:
        depth = f" (depth {self.layer})" if self.layer.isdecimal() else ""
        return f"backing file '{self.image}'{depth}" if self.layer else f"'{self.image}'"

    def _ask(self) -> bytes:
        if not self.new:
            return ask(f"Passphrase for {self._shown}: ")
        value = ask(f"New passphrase for '{self.image}': ")
        if not value:
            raise CommandError("an empty passphrase protects nothing; nothing was written")
        check_new(value, "the prompt")
        if ask("The same passphrase again: ") != value:
            raise CommandError("the two passphrases differ; nothing was written")
        return value


def warn_if_long(value: bytes, origin: str, console: Console) -> None:
    """Say that legacy AES uses the first 16 bytes only."""
    if len(value) > AES_KEY_BYTES:
        console.warn(
            f"the passphrase from {origin} has {len(value)} bytes; legacy AES uses the first "
            f"{AES_KEY_BYTES} and no others"
        )


def check_new(value: bytes, origin: str) -> None:
    """Refuse a passphrase for a new image that no QEMU could open.  Raises CommandError."""
    if not is_qemu_text(value):
        raise CommandError(
            f"the passphrase from {origin} is not valid UTF-8 without NUL: no QEMU could open the "
            "new image; choose another one"
        )


def check_streams(arguments: Arguments, other: str = "target-secret") -> None:
    """Refuse one stream for two passphrases: the second would be empty.  Raises CommandError.

    ``other`` begins the options of the second passphrase.
    """
    fd = arguments.last("secret-fd")
    if arguments.last("secret-file") == arguments.last(f"{other}-file") == "-" or (
        fd is not None and fd == arguments.last(f"{other}-fd")
    ):
        raise CommandError(
            "two passphrases cannot come from one stream: use a file for one of them"
        )


def has_terminal() -> bool:
    """Whether there is a terminal to ask on, whatever standard input is."""
    if os.name != "posix":
        import sys

        return sys.stdin is not None and sys.stdin.isatty()
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask(question: str) -> bytes:
    """What a person types, unseen.  Raises CommandError when that cannot be had."""
    import getpass

    try:
        with warnings.catch_warnings():
            # Without a way to switch the echo off, getpass would show the passphrase.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(printable(question)).encode("utf-8", "surrogateescape")
    except EOFError:
        raise CommandError("no passphrase was typed") from None
    except UnicodeError:
        raise CommandError(
            "what was typed is not valid text on this terminal; --secret-file takes raw bytes"
        ) from None
    except getpass.GetPassWarning:
        raise CommandError(
            "this terminal would show the passphrase; give it with --secret-file"
        ) from None


def given_passphrase(
    arguments: Arguments,
    prefixes: tuple[str, ...],
    *,
    key_secret: str | None,
    objects: dict[str, SecretObject],
    console: Console,
) -> GivenPassphrase | None:
    """The passphrase that the command line names for one image, or None.

    ``prefixes`` begin the options to look at: ``secret``, ``target-secret``.  ``key_secret`` is
    an id of ``objects``.  Raises CommandError when several are named or one cannot be read.
    """
    found = [
        (f"--{prefix}-{kind}", kind, value)
        for prefix in prefixes
        for kind in ("file", "fd", "env")
        if (value := arguments.last(f"{prefix}-{kind}")) is not None
    ]
    named = [name for name, _, _ in found]
    named += [] if key_secret is None else ["encrypt.key-secret"]
    if len(named) > 1:
        raise CommandError(f"{' and '.join(named)} name two passphrases for one image")
    strip = arguments.flag("secret-strip-newline")
    if key_secret is not None:
        return _from_object(key_secret, objects, console, strip=strip)
    if not found:
        return None
    option, kind, text = found[0]
    data = _read(kind, text, option)
    return GivenPassphrase(
        option, strip_newline(data) if strip else data, from_file=True, console=console
    )


def _from_object(
    name: str, objects: dict[str, SecretObject], console: Console, *, strip: bool
) -> GivenPassphrase:
    secret = objects.get(name)
    origin = f"secret '{printable(name)}'"
    if secret is None:
        missing = f"there is no {origin}; add --object secret,id={printable(name)},file=PATH"
        return GivenPassphrase(origin, b"", from_file=False, console=console, problem=missing)
    return GivenPassphrase(
        origin,
        strip_newline(secret.value) if strip and secret.from_file else secret.value,
        from_file=secret.from_file,
        console=console,
        problem=secret.problem,
    )


def layer_passphrases(
    arguments: Arguments, console: Console, key: str = "layer-secret"
) -> dict[str, GivenPassphrase]:
    """What ``--layer-secret-file`` and its kin give, by layer as it was typed, read at once.

    ``key`` begins the options.  Raises CommandError.
    """
    strip = arguments.flag("secret-strip-newline")
    found: dict[str, GivenPassphrase] = {}
    for kind in ("file", "fd", "env"):
        option = f"--{key}-{kind}"
        for text in arguments.all(option[2:]):
            layer, equals, place = text.partition("=")
            if not equals or not layer:
                # Not shown: it may be a passphrase in the wrong place.
                raise CommandError(f"{option} takes LAYER=...; LAYER is a depth or a file name")
            if layer in found:
                raise CommandError(f"{option}: two passphrases for layer '{printable(layer)}'")
            what = f"{option} {printable(layer)}=..."
            data = _read(kind, place, what)
            found[layer] = GivenPassphrase(
                what, strip_newline(data) if strip else data, from_file=True, console=console
            )
    return found


def object_passphrase(
    name: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> GivenPassphrase:
    """The passphrase of an ``--object secret`` by its id; what is wrong comes up at its use."""
    return _from_object(name, objects, console, strip=arguments.flag("secret-strip-newline"))


def _read(kind: str, text: str, option: str) -> bytes:
    if kind == "fd":
        return read_secret_fd(text, what=option)
    if kind == "env":
        return read_secret_env(text, what=option)
    if text == "-":
        return read_secret_stdin(what=option)
    return read_secret_file(text, what=option)
