"""A second and a third opinion on AES: pycryptodome and cryptography must both agree.

``cryptography`` works with OpenSSL, ``pycryptodome`` with code of its own: they share no code.
Knows keys, IVs and bytes; knows no files.
"""

from __future__ import annotations

from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class DisagreementError(Exception):
    """The two libraries do not give the same bytes."""


def _agreed(one: bytes, other: bytes, what: str) -> bytes:
    if one != other:
        raise DisagreementError(f"pycryptodome and cryptography disagree on {what}")
    return one


def encrypt(key: bytes, iv: bytes | None, plaintext: bytes) -> bytes:
    """AES-CBC, or AES-ECB where ``iv`` is None, by both libraries."""
    mode = modes.ECB() if iv is None else modes.CBC(iv)  # noqa: S305  one block, or ECB vectors
    encryptor = Cipher(algorithms.AES(key), mode).encryptor()
    one = AES.new(key, AES.MODE_ECB) if iv is None else AES.new(key, AES.MODE_CBC, iv=iv)
    other = encryptor.update(plaintext) + encryptor.finalize()
    return _agreed(one.encrypt(plaintext), other, "an encryption")


def decrypt(key: bytes, iv: bytes | None, ciphertext: bytes) -> bytes:
    """The way back, by both libraries."""
    mode = modes.ECB() if iv is None else modes.CBC(iv)  # noqa: S305  one block, or ECB vectors
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    one = AES.new(key, AES.MODE_ECB) if iv is None else AES.new(key, AES.MODE_CBC, iv=iv)
    other = decryptor.update(ciphertext) + decryptor.finalize()
    return _agreed(one.decrypt(ciphertext), other, "a decryption")


def monte_carlo(key: bytes, iv: bytes, block: bytes, *, encrypting: bool) -> bytes:
    """The last block of a Monte Carlo chain for CBC (AESAVS, section 6.4), by both libraries.

    Of 1000 blocks each has the ciphertext before as its IV, so the chain is one long message;
    and each takes as its input the output of the step before the last, at first the IV.
    """
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv))
    one = AES.new(key, AES.MODE_CBC, iv=iv)
    other = cipher.encryptor() if encrypting else cipher.decryptor()
    previous = iv
    for _ in range(1000):
        output = one.encrypt(block) if encrypting else one.decrypt(block)
        _agreed(output, other.update(block), "a chain")
        block, previous = previous, output
    return output
