"""The dirty bitmaps of a qcow2 file, read straight from its bytes.

Written from the qcow2 document, "Bitmaps", and nothing of the package: a second reading of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BITMAPS = 0x23852875
IN_USE, AUTO = 1, 2


@dataclass(frozen=True)
class BitmapFound:
    """One bitmap.  ``dirty`` has the numbers of the bits that are set, within the disk."""

    flags: int
    granularity: int
    dirty: frozenset[int]


def bitmaps(content: bytes) -> dict[str, BitmapFound]:
    """All bitmaps of a file, by name."""
    cluster = 1 << int.from_bytes(content[20:24], "big")
    size = int.from_bytes(content[24:32], "big")
    directory = _directory(content)
    if directory is None:
        return {}
    count, at = directory
    found = {}
    for _ in range(count):
        table, entries, flags, kind, bits, length, extra = struct.unpack_from(
            ">QIIBBHI", content, at
        )
        assert kind == 1
        start = at + 24 + extra
        name = content[start : start + length].decode()
        at = -(-(start + length) // 8) * 8
        dirty = [] if flags & IN_USE else _dirty(content, table, entries, cluster)
        last = -(-size >> bits) if size else 0
        found[name] = BitmapFound(flags, 1 << bits, frozenset(bit for bit in dirty if bit < last))
        if not flags & IN_USE:
            assert entries == -(-last // (8 * cluster)), f"the table of {name} has the wrong size"
    return found


def _directory(content: bytes) -> tuple[int, int] | None:
    """How many bitmaps, and where the first entry is."""
    if int.from_bytes(content[4:8], "big") < 3 or not content[95] & 1:
        return None
    at = int.from_bytes(content[100:104], "big")
    while True:
        kind, length = struct.unpack_from(">II", content, at)
        if kind == BITMAPS:
            count, _, _, offset = struct.unpack_from(">IIQQ", content, at + 8)
            return count, offset
        if not kind:
            return None
        at += 8 + -(-length // 8) * 8


def _dirty(content: bytes, table: int, entries: int, cluster: int) -> list[int]:
    bits: list[int] = []
    for number, (entry,) in enumerate(struct.iter_unpack(">Q", content[table:][: 8 * entries])):
        base = number * cluster * 8
        if entry == 1:
            bits.extend(range(base, base + cluster * 8))
        elif entry:
            data = content[entry : entry + cluster]
            bits.extend(
                base + 8 * place + bit
                for place, byte in enumerate(data)
                if byte
                for bit in range(8)
                if byte >> bit & 1
            )
    return bits
