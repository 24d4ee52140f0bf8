"""What is counted in ciphertext.  Bytes in, numbers out; no keys, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE


def blocks(data: bytes) -> list[bytes]:
    """The blocks of 16 bytes."""
    return _cut(data, BLOCK_SIZE)


def sectors(data: bytes) -> list[bytes]:
    """The sectors of 512 bytes."""
    return _cut(data, SECTOR_SIZE)


def first_blocks(data: bytes) -> list[bytes]:
    """The first block of each sector."""
    return [sector[:BLOCK_SIZE] for sector in sectors(data)]


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def most_common(items: list[bytes]) -> int:
    """How often the value occurs that occurs most often.

    >>> most_common([b"a", b"b", b"a"])
    2
    """
    return max(Counter(items).values(), default=0)


def equal(first: list[bytes], second: list[bytes]) -> int:
    """At how many places two lists hold the same."""
    return sum(one == other for one, other in zip(first, second, strict=True))


def changed_bits(first: bytes, second: bytes) -> int:
    """In how many bits two equally long texts differ.

    >>> changed_bits(b"C", b"A")
    1
    """
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def changed_bytes(first: bytes, second: bytes) -> int:
    """In how many bytes two equally long texts differ."""
    return sum(one != other for one, other in zip(first, second, strict=True))


def xor(first: bytes, second: bytes) -> bytes:
    """Byte by byte; the longer one is cut."""
    return bytes(one ^ other for one, other in zip(first, second, strict=False))


def marks(first: bytes, second: bytes) -> str:
    """For each byte ``.`` where both are equal, ``x`` where not."""
    return "".join(".x"[one != other] for one, other in zip(first, second, strict=True))


def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers, which come in ascending order.

    >>> list(runs([1, 2, 3, 7]))
    [(1, 3), (7, 7)]
    """
    start = None
    for place, number in enumerate(numbers):
        if start is None:
            start = number
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            yield start, number
            start = None
