"""The engine ``reference``: the textbook, made to fit where an engine is wanted.

The slowest by far.  It is here to compare the others with, and to run whatever uses an engine
on code that can be read.  Nothing chooses it unless it is asked for by name.

Knows keys, IVs and buffers; knows no sector numbers.  Follows ``qcow2crypt.reference``.
Not constant-time.
"""

from __future__ import annotations

from collections.abc import Callable

from qcow2crypt.engines.base import byte_view, check_blocks, check_key, check_run
from qcow2crypt.reference.aes import encrypt, set_decrypt_key, set_encrypt_key
from qcow2crypt.reference.modes import cbc_decrypt, cbc_encrypt
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer


class ReferenceKey:
    """An expanded key of the engine ``reference``.  See ``ExpandedKey``."""

    def __init__(self, key: bytes) -> None:
        check_key(key)
        key = bytes(key)
        self._encrypt_key = set_encrypt_key(key, 8 * len(key))
        self._decrypt_key = set_decrypt_key(key, 8 * len(key))

    def __repr__(self) -> str:
        return "<expanded key of the engine 'reference'>"

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``."""

        def mode(data: bytes, iv: bytes) -> bytes:
            return cbc_encrypt(data, self._encrypt_key, iv)

        _each_sector(mode, ivs, src, dst, sector_size=sector_size)

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``."""

        def mode(data: bytes, iv: bytes) -> bytes:
            return cbc_decrypt(data, self._decrypt_key, iv)

        _each_sector(mode, ivs, src, dst, sector_size=sector_size)

    def ecb_encrypt(self, src: ReadBuffer, dst: WriteBuffer) -> None:
        """Encrypt every block of ``src`` into ``dst``."""
        count = check_blocks(src, dst)
        source, target = byte_view(src), byte_view(dst)
        for i in range(count):
            place = slice(i * BLOCK_SIZE, (i + 1) * BLOCK_SIZE)
            target[place] = encrypt(bytes(source[place]), self._encrypt_key)


class ReferenceEngine:
    """See ``Engine``."""

    name = "reference"

    def expand_key(self, key: bytes) -> ReferenceKey:
        """Make the key schedule.  Raises ArgumentError for a key of another length."""
        return ReferenceKey(key)


def load() -> ReferenceEngine:
    """The engine.  It works everywhere."""
    return ReferenceEngine()


def _each_sector(
    mode: Callable[[bytes, bytes], bytes],
    ivs: ReadBuffer,
    src: ReadBuffer,
    dst: WriteBuffer,
    *,
    sector_size: int,
) -> None:
    """Put every sector, with its IV, through ``mode``; it is read whole before it is written."""
    count = check_run(ivs, src, dst, sector_size)
    iv_view, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
    for i in range(count):
        place = slice(i * sector_size, (i + 1) * sector_size)
        iv = bytes(iv_view[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE])
        target[place] = mode(bytes(source[place]), iv)
