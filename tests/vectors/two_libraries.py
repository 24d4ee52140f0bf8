"""A second and a third opinion on AES: pycryptodome and cryptography must both agree.

``cryptography`` works with OpenSSL, ``pycryptodome`` with code of its own: they share nothing.
Knows keys, IVs and bytes; knows no files.
"""

from __future__ import annotations

from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class DisagreementError(Exception):
    """The two libraries, or a library and a vector, do not give the same bytes."""


def _agreed(one: bytes, other: bytes, what: str) -> bytes:
    if one != other:
        raise DisagreementError(f"pycryptodome and cryptography disagree on {what}")
    return one


def encrypt(key: bytes, iv: bytes | None, plaintext: bytes) -> bytes:
    """AES-CBC, or AES-ECB where ``iv`` is None, by both libraries."""
    mode = modes.ECB() if iv is None else modes.CBC(iv)  # noqa: S305  ECB is what the vectors are for
    encryptor = Cipher(algorithms.AES(key), mode).encryptor()
    one = _pycryptodome(key, iv).encrypt(plaintext)
    return _agreed(one, encryptor.update(plaintext) + encryptor.finalize(), "an encryption")


def decrypt(key: bytes, iv: bytes | None, ciphertext: bytes) -> bytes:
    """The way back, by both libraries."""
    mode = modes.ECB() if iv is None else modes.CBC(iv)  # noqa: S305  ECB is what the vectors are for
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    one = _pycryptodome(key, iv).decrypt(ciphertext)
    return _agreed(one, decryptor.update(ciphertext) + decryptor.finalize(), "a decryption")


def check_case(case: dict[str, str]) -> None:
    """Raise DisagreementError unless both libraries get this case right in both directions."""
    key, plaintext, ciphertext = (
        bytes.fromhex(case[name]) for name in ("key", "plaintext", "ciphertext")
    )
    iv = bytes.fromhex(case["iv"]) if "iv" in case else None
    if encrypt(key, iv, plaintext) != ciphertext or decrypt(key, iv, ciphertext) != plaintext:
        raise DisagreementError(f"{case['id']} is not what both libraries compute")


def _pycryptodome(key: bytes, iv: bytes | None):  # type: ignore[no-untyped-def]
    return AES.new(key, AES.MODE_ECB) if iv is None else AES.new(key, AES.MODE_CBC, iv=iv)
