"""Legacy AES, crypt_method 1 of qcow2 and qcow: from a passphrase to the key.

The rule checks nothing, so a slip in the passphrase gives another key and garbage, not an error.
What can be seen beforehand is told as a warning.  ``reference/sectors`` has the same rule.

Knows passphrases; knows no images.  No message ever shows a passphrase or a part of it.
"""

from __future__ import annotations

from qcow2crypt.errors import SecretError

KEY_SIZE = 16


def key_from_passphrase(passphrase: str | bytes) -> bytes:
    """The AES-128 key: the bytes of the passphrase (UTF-8 for a str), cut or zero-filled to 16.

    Raises SecretError for a str that has no UTF-8 form.

    >>> key_from_passphrase("hunter2").hex()
    '68756e74657232000000000000000000'
    """
    if isinstance(passphrase, str):
        # Not by way of UnicodeEncodeError: that one carries the whole passphrase along.
        if any("\ud800" <= character <= "\udfff" for character in passphrase):
            raise SecretError("the passphrase cannot be written in UTF-8; give it as bytes")
        passphrase = passphrase.encode()
    return bytes(passphrase[:KEY_SIZE]).ljust(KEY_SIZE, b"\0")


def passphrase_warnings(passphrase: bytes) -> tuple[str, ...]:
    """What may be wrong with a passphrase, in sentences for a person.  Empty where all is well.

    >>> passphrase_warnings(b"correct horse battery")
    ('the passphrase is longer than 16 bytes: only the first 16 count',)
    """
    warnings = []
    if not passphrase:
        warnings.append("the passphrase is empty: the key is all zeros")
    if len(passphrase) > KEY_SIZE:
        warnings.append(f"the passphrase is longer than {KEY_SIZE} bytes: only the first 16 count")
    if passphrase.endswith((b"\n", b"\r")):
        warnings.append(
            "the passphrase ends with a newline byte, which is a part of the key"
            if len(passphrase.rstrip(b"\r\n")) < KEY_SIZE
            else "the passphrase ends with a newline byte, which is beyond what counts"
        )
    if not _qemu_takes(passphrase):
        warnings.append(
            "today's qemu-img does not take this passphrase: it is not UTF-8 or has a zero byte"
        )
    return tuple(warnings)


def _qemu_takes(passphrase: bytes) -> bool:
    """Whether a QEMU secret can hold these bytes: UTF-8 over the whole length, without NUL."""
    try:
        passphrase.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in passphrase
