"""A picture with a palette as a PNG file.  Follows the PNG specification, second edition (W3C)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3


def png(width: int, cells: bytes, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """``cells`` are numbers of colours, row by row, ``width`` in each; at most 256 colours."""
    height = len(cells) // width
    rows = b"".join(b"\0" + cells[at : at + width] for at in range(0, len(cells), width))
    return b"".join(
        (
            _SIGNATURE,
            _part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)),
            _part(b"PLTE", b"".join(map(bytes, palette))),
            _part(b"IDAT", zlib.compress(rows, 9)),
            _part(b"IEND", b""),
        )
    )


def _part(name: bytes, data: bytes) -> bytes:
    """Length, name, data, and the CRC of name and data."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
