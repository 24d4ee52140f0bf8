"""Which parts of a piece are worth storing?  Finds runs of zeros as ``qemu-img convert -S`` does.

Knows bytes only.  The rules, seen on what qemu-img leaves out: zeros are looked for in units
of the largest power of two that is not above the sparse size, aligned on the guest disk; a run
of zero units between data counts only if it is as long as the sparse size.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcow2crypt.units import SECTOR_SIZE, GuestOffset, ReadBuffer

DEFAULT_SPARSE_SIZE = 4096
_LOOKS_MAX = 256


def data_runs(
    piece: ReadBuffer, offset: GuestOffset, sparse_size: int = DEFAULT_SPARSE_SIZE
) -> Iterator[tuple[int, int]]:
    """The (start, end) positions in ``piece`` that hold data, in order, apart from each other.

    ``offset`` is the guest offset of the piece; ``sparse_size`` in bytes, 0 to keep all.
    """
    piece = memoryview(piece).cast("B")
    length = len(piece)
    if not length:
        return
    if not sparse_size:
        yield 0, length
        return
    unit = max(SECTOR_SIZE, 1 << (sparse_size.bit_length() - 1))
    aligned = -offset % unit
    if not aligned and 0 not in bytes(piece[::unit]):
        yield 0, length
        return
    start = last = -1
    position = 0
    for first, end in (*_zero_units(piece, aligned, unit), (length, length)):
        if first > position:
            if start >= 0 and position - last >= sparse_size:
                yield start, last
                start = position
            elif start < 0:
                start = position
            last = first
        position = end
    if start >= 0:
        yield start, last


def has_no_zeros(data: memoryview) -> bool:
    """Whether no sector is all zeros, so that all is worth storing.  False if not seen at once."""
    first_bytes = bytes(data[::SECTOR_SIZE])
    number = -1
    for _ in range(_LOOKS_MAX):
        number = first_bytes.find(0, number + 1)
        if number < 0:
            return True
        if not any(data[number * SECTOR_SIZE : (number + 1) * SECTOR_SIZE]):
            return False
    return False


def _zero_units(piece: memoryview, aligned: int, unit: int) -> Iterator[tuple[int, int]]:
    """The units that are all zeros, in order.  The first whole unit begins at ``aligned``.

    Units that begin with another byte, nearly all units of data, cost no step of Python.
    """
    length = len(piece)
    zeros = bytes(min(unit, length))
    if aligned and piece[:aligned] == zeros[: min(aligned, length)]:
        yield 0, min(aligned, length)
    first_bytes = bytes(piece[aligned::unit])
    number = first_bytes.find(0)
    while number >= 0:
        start = aligned + number * unit
        end = min(start + unit, length)
        if piece[start:end] == zeros[: end - start]:
            yield start, end
        number = first_bytes.find(0, number + 1)
