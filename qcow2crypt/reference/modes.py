"""3 of 5.  CBC: many blocks, each chained to the one before.

Equal blocks under one key give equal ciphertext, which shows patterns.  CBC hides them: each
block is XORed with the ciphertext block before it, then encrypted; an IV takes that place for
the first block.

    encrypting   C[i] = AES(P[i] ^ C[i-1])            one after the other, by nature
    decrypting   P[i] = inverse AES(C[i]) ^ C[i-1]    every block on its own

Knows keys, IVs and whole blocks; knows no sectors and no rule that makes IVs.  Follows NIST
SP 800-38A, section 6.2.  The AES_cbc_encrypt of the classic aes.c did both directions in one
function with a flag, wrote the last ciphertext block back into the IV argument, and took a last
block of fewer than 16 bytes in a way of its own.  That tail is left out: a disk sector is whole
blocks and never reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .aes import BLOCK_SIZE, AesKey, RoundState, decrypt, encrypt


@dataclass(frozen=True, slots=True)
class CbcStep:
    """What a watcher sees of one block, in the words of SP 800-38A, appendix F.2.

    ``input_block`` is what enters AES and ``output_block`` what leaves it; the XOR lies between
    ``plaintext`` and its neighbour.  ``index`` counts blocks from 0.
    """

    index: int
    plaintext: bytes
    input_block: bytes
    output_block: bytes
    ciphertext: bytes


CbcWatcher = Callable[[RoundState | CbcStep], None]


def _blocks(data: bytes, iv: bytes) -> list[bytes]:
    """``data`` cut into blocks, once it and the IV are known to have the right length."""
    if len(data) % BLOCK_SIZE:
        raise ValueError(f"{len(data)} bytes are not whole blocks of {BLOCK_SIZE} bytes")
    if len(iv) != BLOCK_SIZE:
        raise ValueError(f"an IV has {BLOCK_SIZE} bytes, not {len(iv)}")
    return [data[i : i + BLOCK_SIZE] for i in range(0, len(data), BLOCK_SIZE)]


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(BLOCK_SIZE, "big")


def cbc_encrypt(data: bytes, key: AesKey, iv: bytes, watch: CbcWatcher | None = None) -> bytes:
    """Encrypt whole blocks with a schedule of ``set_encrypt_key``.

    ``watch`` sees the rounds of each block, then its CbcStep.  Raises ValueError when ``data``
    is not a multiple of 16 bytes long or ``iv`` is not 16 bytes long.
    """
    message, previous = bytearray(), iv
    for index, plaintext in enumerate(_blocks(data, iv)):
        mixed = _xor(plaintext, previous)
        ciphertext = encrypt(mixed, key, watch)
        if watch is not None:
            watch(CbcStep(index, plaintext, mixed, ciphertext, ciphertext))
        message += ciphertext
        previous = ciphertext
    return bytes(message)


def cbc_decrypt(data: bytes, key: AesKey, iv: bytes, watch: CbcWatcher | None = None) -> bytes:
    """Decrypt whole blocks with a schedule of ``set_decrypt_key``.  Else as ``cbc_encrypt``.

    >>> from .aes import set_decrypt_key, set_encrypt_key
    >>> user_key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")  # SP 800-38A, F.2.1
    >>> iv, data = bytes(range(16)), bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    >>> secret = cbc_encrypt(data, set_encrypt_key(user_key, 128), iv)
    >>> secret.hex()
    '7649abac8119b246cee98e9b12e9197d'
    >>> cbc_decrypt(secret, set_decrypt_key(user_key, 128), iv) == data
    True
    """
    message, previous = bytearray(), iv
    for index, ciphertext in enumerate(_blocks(data, iv)):
        mixed = decrypt(ciphertext, key, watch)
        plaintext = _xor(mixed, previous)
        if watch is not None:
            watch(CbcStep(index, plaintext, ciphertext, mixed, ciphertext))
        message += plaintext
        previous = ciphertext
    return bytes(message)
