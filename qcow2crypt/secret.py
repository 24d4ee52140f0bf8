"""Passphrases on their way in: text, bytes or a callable that asks for one.

Knows nothing of ciphers.  A passphrase is turned to bytes as late as possible and is never
part of a message.  CPython cannot wipe ``str`` and ``bytes`` objects; what this package can
do is not to copy them about and not to keep them longer than an image is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qcow2crypt.errors import SecretError, SecretRequiredError

Secret: TypeAlias = "str | bytes | Callable[[], str | bytes] | None"


def passphrase_bytes(secret: Secret, *, needed_for: str) -> bytes:
    """The passphrase as bytes: text as UTF-8, a callable called once, bytes as they are.

    Bytes need not be UTF-8: QEMU before 2.10 took what the terminal gave.  ``needed_for`` names
    the image in messages.  Raises SecretRequiredError for None, SecretError for another type
    or for text that is not Unicode (lone surrogates).
    """
    value = secret() if callable(secret) else secret
    if value is None:
        raise SecretRequiredError(f"{needed_for} is encrypted: a passphrase is needed")
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            # The cause is left out: its text would show the passphrase.
            message = f"the passphrase for {needed_for} has lone surrogates; give it as bytes"
            raise SecretError(message) from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise SecretError(
        f"the passphrase for {needed_for} must be str or bytes, not {type(value).__name__}"
    )
