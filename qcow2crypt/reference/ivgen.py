"""4 of 5.  IV generators: from the number of a sector to the IV of its CBC message.

    plain          the number as 32 bits, little-endian, then zeros: starts anew after 2^32 sectors
    plain64        the number as 64 bits, little-endian, then zeros: legacy qcow2 uses this one
    essiv:sha256   plain64, encrypted with AES under a hash of the key

An IV that can be foretold, as that of plain and plain64, lets somebody who chooses data undo the
first XOR of CBC: a file made for it leaves a mark that is seen without the key.  ESSIV was made
against that.

Knows sector numbers and keys; knows no data.  The names are those of Linux dm-crypt and LUKS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from .aes import BLOCK_SIZE, ROUNDS, encrypt, set_encrypt_key

SECTOR_NUMBER_MAX = 2**64 - 1

IvGenerator = Callable[[int], bytes]


def plain(sector: int) -> bytes:
    """The IV of a sector by its low 32 bits.  Raises ValueError beyond 64 bits.

    >>> plain(0x1F2E3D4C5B6A7988).hex()
    '88796a5b000000000000000000000000'
    """
    return plain64(sector)[:4].ljust(BLOCK_SIZE, b"\0")


def plain64(sector: int) -> bytes:
    """The IV of a sector by all its 64 bits.  Raises ValueError beyond them.

    >>> plain64(0x1F2E3D4C5B6A7988).hex()
    '88796a5b4c3d2e1f0000000000000000'
    """
    if not 0 <= sector <= SECTOR_NUMBER_MAX:
        raise ValueError(f"sector number {sector} is not in 0 to 2**64 - 1")
    return sector.to_bytes(8, "little").ljust(BLOCK_SIZE, b"\0")


def essiv(key: bytes, hash_name: str = "sha256") -> IvGenerator:
    """The ESSIV generator for ``key``: plain64, encrypted under the hash of the key.

    The length of the digest chooses the AES: with SHA-256 it is AES-256, whatever ``key`` has.
    Raises ValueError for a hash that is not known, or whose digest is not 16, 24 or 32 bytes.
    """
    digest = hashlib.new(hash_name, key)
    if digest.digest_size * 8 not in ROUNDS:
        raise ValueError(
            f"essiv:{hash_name} needs an AES key of {digest.digest_size} bytes; "
            "AES has keys of 16, 24 and 32"
        )
    salt = set_encrypt_key(digest.digest(), digest.digest_size * 8)
    return lambda sector: encrypt(plain64(sector), salt)


IV_GENERATORS: dict[str, Callable[[bytes], IvGenerator]] = {
    "plain": lambda _key: plain,
    "plain64": lambda _key: plain64,
    "essiv:sha256": essiv,
}


def iv_generator(name: str, key: bytes) -> IvGenerator:
    """The generator called ``name`` for ``key``.  Raises ValueError for a name not in the table.

    >>> iv_generator("essiv:sha256", bytes(range(16)))(1).hex()
    'c10509c8cf7d6eee55d7205db7845a6f'
    """
    if name not in IV_GENERATORS:
        raise ValueError(f"no IV generator '{name}'; there are: {', '.join(IV_GENERATORS)}")
    return IV_GENERATORS[name](key)
