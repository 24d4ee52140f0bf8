"""Which parts of a piece are worth storing?  Finds runs of zeros as ``qemu-img convert -S`` does.

Knows bytes only.  The rules, seen on what qemu-img leaves out: zeros are looked for in units
of the largest power of two that is not above the sparse size, aligned on the guest disk; a run
of zero units between data counts only if it is as long as the sparse size.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcow2crypt.units import SECTOR_SIZE, GuestOffset

DEFAULT_SPARSE_SIZE = 4096


def data_runs(
    piece: bytearray, offset: GuestOffset, sparse_size: int = DEFAULT_SPARSE_SIZE
) -> Iterator[tuple[int, int]]:
    """The (start, end) positions in ``piece`` that hold data, in order, apart from each other.

    ``offset`` is the guest offset of the piece; ``sparse_size`` in bytes, 0 to keep all.
    """
    length = len(piece)
    if not length:
        return
    if not sparse_size:
        yield 0, length
        return
    unit = max(SECTOR_SIZE, 1 << (sparse_size.bit_length() - 1))
    zeros = bytes(min(unit, length))
    start = last = -1
    position = 0
    while position < length:
        end = min(position + unit - (offset + position) % unit, length)
        if piece[position] or piece[position:end] != zeros[: end - position]:
            if start >= 0 and position - last >= sparse_size:
                yield start, last
                start = position
            elif start < 0:
                start = position
            last = end
        position = end
    if start >= 0:
        yield start, last
