"""Read a passphrase byte for byte: from a file, a descriptor or the environment.

Knows nothing of images.  What is read never becomes part of a message, and neither does a word
that may be a passphrase in the wrong place.
"""

from __future__ import annotations

import os
import sys

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.terminal import printable

_LONGEST = 1 << 16
"""More bytes than any passphrase: a whole disk image given by mistake is not read."""


def read_secret_file(path: str, *, what: str) -> bytes:
    """Every byte of the file at ``path``.  Raises CommandError, which begins with ``what``."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path as it was typed
            value = file.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a NUL character"
        raise CommandError(f"{what}: cannot read '{printable(path)}': {reason}") from None
    return _checked(value, what)


def read_secret_stdin(*, what: str) -> bytes:
    """Every byte of standard input up to its end.  Raises as ``read_secret_file``."""
    try:
        value = sys.stdin.buffer.read(_LONGEST + 1)
    except (OSError, ValueError, AttributeError):
        raise CommandError(f"{what}: standard input cannot be read") from None
    return _checked(value, what)


def read_secret_fd(number: str, *, what: str) -> bytes:
    """Every byte of an open descriptor up to its end; it stays open.  Raises the same."""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise CommandError(f"{what} takes the number of an open file descriptor")
    try:
        with open(int(number), "rb", closefd=False) as file:
            value = file.read(_LONGEST + 1)
    except OSError as error:
        raise CommandError(
            f"{what}: cannot read file descriptor {int(number)}: {error.strerror}"
        ) from None
    return _checked(value, what)


def read_secret_env(name: str, *, what: str) -> bytes:
    """The value of an environment variable.  Raises the same."""
    value = os.environ.get(name)
    if value is None:
        # The name is not shown: it may be the passphrase itself ("--secret-env $PASSPHRASE").
        raise CommandError(f"{what} takes the name of an environment variable; none has this name")
    return _checked(os.fsencode(value) if os.name == "posix" else value.encode("utf-8"), what)


def strip_newline(value: bytes) -> bytes:
    r"""``value`` without one ``\n`` or ``\r\n`` at its end."""
    return value.removesuffix(b"\n").removesuffix(b"\r") if value.endswith(b"\n") else value


def _checked(value: bytes, what: str) -> bytes:
    if len(value) > _LONGEST:
        raise CommandError(f"{what}: more than {_LONGEST} bytes; this is not a passphrase")
    return value
