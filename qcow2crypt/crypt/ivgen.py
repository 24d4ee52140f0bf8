"""The IVs of a run of sectors, 16 bytes each, all at once.

    plain          the sector number as 32 bits, little-endian, then zeros
    plain64        the sector number as 64 bits, little-endian, then zeros
    essiv:sha256   plain64, encrypted with AES under the SHA-256 of the key

``reference/ivgen`` makes the same one by one, and tells more of them.  Knows sector numbers and
keys; knows no data, and not whether the numbers count guest or host sectors.  The names are those
of Linux dm-crypt and LUKS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from qcow2crypt.engines import Engine
from qcow2crypt.engines.base import Plain64Engine, pieces
from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import BLOCK_SIZE, SECTOR_NUMBER_MAX, ReadBuffer

IvGenerator: TypeAlias = Callable[[int, int], ReadBuffer]
"""From the first sector number and the count of sectors to 16 bytes of IV for each sector."""

_PLAIN_NUMBERS = 1 << 32  # plain starts anew here
_PIECE_SECTORS = 1 << 12


def check_sectors(first: int, count: int) -> None:
    """Refuse a run whose sector numbers are not all in 0 to 2**64 - 1, with ArgumentError."""
    if count < 0:
        raise ArgumentError(f"a run cannot have {count} sectors")
    if not 0 <= first <= SECTOR_NUMBER_MAX - max(count - 1, 0):
        raise ArgumentError(f"{count} sectors from {first} on are not all in 0 to 2**64 - 1")


def plain64(first: int, count: int) -> bytes:
    """The IVs of ``count`` sectors from ``first`` on.  ArgumentError beyond 64 bits.

    >>> plain64(0x1F2E3D4C5B6A7988, 2).hex(" ", 16)
    '88796a5b4c3d2e1f0000000000000000 89796a5b4c3d2e1f0000000000000000'
    """
    check_sectors(first, count)
    if count > _PIECE_SECTORS:
        return b"".join(
            plain64(first + start, end - start) for start, end in pieces(count, _PIECE_SECTORS)
        )
    # All IVs are one integer with a digit of 128 bits for each, so all sector numbers are made
    # in one go: ``first`` in every digit, plus 0, 1, 2, ...  No digit gets near to overflow.
    ones, counting = _digits(count)
    return (first * ones + counting).to_bytes(BLOCK_SIZE * count, "little")


def plain(first: int, count: int) -> bytes:
    """The IVs of ``count`` sectors by the low 32 bits.  ArgumentError beyond 64 bits.

    >>> plain(0x1FFFFFFFF, 2).hex(" ", 16)
    'ffffffff000000000000000000000000 00000000000000000000000000000000'
    """
    check_sectors(first, count)
    start = first % _PLAIN_NUMBERS
    before_turn = min(count, _PLAIN_NUMBERS - start)
    ivs = plain64(start, before_turn)
    return ivs if before_turn == count else ivs + plain(0, count - before_turn)


def essiv_sha256(key: bytes, engine: Engine) -> IvGenerator:
    """The generator essiv:sha256 for ``key``.  Its AES is AES-256, whatever ``key`` has.

    >>> from qcow2crypt import engines
    >>> essiv_sha256(bytes(range(16)), engines.get())(1, 1).hex()
    'c10509c8cf7d6eee55d7205db7845a6f'
    """
    import hashlib  # with all of OpenSSL, which plain64 has no use for

    salt = engine.expand_key(hashlib.sha256(key).digest())
    numbers = plain64_by(engine)

    def generate(first: int, count: int) -> bytearray:
        ivs = bytearray(numbers(first, count))
        salt.ecb_encrypt(ivs, ivs)
        return ivs

    return generate


def plain64_by(engine: Engine) -> IvGenerator:
    """``plain64``, left to the engine if it has one of its own."""
    if not isinstance(engine, Plain64Engine):
        return plain64
    of_engine = engine.plain64

    def generate(first: int, count: int) -> ReadBuffer:
        check_sectors(first, count)
        return of_engine(first, count)

    return generate


_MAKERS: dict[str, Callable[[bytes, Engine], IvGenerator]] = {
    "plain": lambda _key, _engine: plain,
    "plain64": lambda _key, engine: plain64_by(engine),
    "essiv:sha256": essiv_sha256,
}


def names() -> tuple[str, ...]:
    """The names of all IV generators."""
    return tuple(_MAKERS)


def iv_generator(name: str, key: bytes, engine: Engine) -> IvGenerator:
    """The generator called ``name`` for ``key``.  ArgumentError for a name that is not known."""
    maker = _MAKERS.get(name)
    if maker is None:
        raise ArgumentError(f"there is no IV generator '{name}'; there are: {', '.join(names())}")
    return maker(key, engine)


@lru_cache(maxsize=16)  # runs come in few lengths
def _digits(count: int) -> tuple[int, int]:
    """Two integers of ``count`` digits of 128 bits: 1, 1, 1, ... and 0, 1, 2, ..."""
    ones = int.from_bytes((1).to_bytes(BLOCK_SIZE, "little") * count, "little")
    numbers = (number.to_bytes(BLOCK_SIZE, "little") for number in range(count))
    return ones, int.from_bytes(b"".join(numbers), "little")
