"""Dirty bitmaps of a qcow2 file, read and changed: written from the qcow2 document alone.

Slow and simple: all bits of a bitmap are one string of bytes.  Knows nothing of this package.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BITMAPS = 0x23852875
ENTRY = ">QIIBBHI"
IN_USE, AUTO = 1, 2


@dataclass(frozen=True)
class Seen:
    """One bitmap: where its entry lies, what it says, and all its bits."""

    at: int
    name: bytes
    flags: int
    granularity_bits: int
    table: int
    entries: int
    bits: bytes


@dataclass(frozen=True)
class BitmapFound:
    """What a bitmap means, wherever it lies.  ``dirty`` has the numbers of the bits that are set.

    The bits of one that is in use mean nothing, and are left out.
    """

    flags: int
    granularity: int
    dirty: frozenset[int]


def bitmaps(data: bytes) -> dict[str, BitmapFound]:
    """All bitmaps of an image file by name, each with a table of the size that the disk needs."""
    size = 1 << struct.unpack_from(">I", data, 20)[0]
    disk = struct.unpack_from(">Q", data, 24)[0]
    found = {}
    for one in bitmaps_in(data):
        last = -(-disk // (1 << one.granularity_bits))
        dirty: list[int] = []
        if not one.flags & IN_USE:
            assert one.entries == -(-last // (8 * size)), f"the table of {one.name!r} has no fit"
            dirty = [bit for bit in _set(one.bits) if bit < last]
        found[one.name.decode()] = BitmapFound(
            one.flags, 1 << one.granularity_bits, frozenset(dirty)
        )
    return found


def _set(bits: bytes) -> list[int]:
    return [
        8 * place + bit
        for place, byte in enumerate(bits)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def bitmaps_in(data: bytes) -> list[Seen]:
    """The bitmaps of an image file, in order; none where the extension does not count."""
    size = 1 << struct.unpack_from(">I", data, 20)[0]
    disk = struct.unpack_from(">Q", data, 24)[0]
    if struct.unpack_from(">I", data, 4)[0] < 3 or not data[95] & 1:
        return []
    at = struct.unpack_from(">I", data, 100)[0]
    while (kind := struct.unpack_from(">I", data, at)[0]) != BITMAPS:
        assert kind, "the autoclear bit is set, but there is no extension"
        at += 8 + -(-struct.unpack_from(">I", data, at + 4)[0] // 8) * 8
    count, _, length, place = struct.unpack_from(">IIQQ", data, at + 8)
    end = place + length
    found = []
    for _ in range(count):
        table, entries, flags, _, shift, name, extra = struct.unpack_from(ENTRY, data, place)
        start = place + 24 + extra
        needed = -(-disk // (1 << shift))
        bits = b"".join(
            _cluster(data, entry, size)
            for entry in struct.unpack(f">{entries}Q", _padded(data, table, 8 * entries))
        )[: -(-needed // 8)]
        found.append(Seen(place, data[start : start + name], flags, shift, table, entries, bits))
        place += -(-(24 + extra + name) // 8) * 8
    assert place == end
    return found


def _cluster(data: bytes, entry: int, size: int) -> bytes:
    if entry & ~1:
        return _padded(data, entry, size)
    return b"\xff" * size if entry & 1 else bytes(size)


def _padded(data: bytes, at: int, length: int) -> bytes:
    return data[at : at + length].ljust(length, b"\0")


def marked_in_use(data: bytes, *names: bytes) -> bytes:
    """The file, in which these bitmaps are inconsistent."""
    changed = bytearray(data)
    for bitmap in bitmaps_in(data):
        if bitmap.name in names:
            struct.pack_into(">I", changed, bitmap.at + 12, bitmap.flags | IN_USE)
    return bytes(changed)


def with_table(data: bytes, name: bytes, clusters: dict[int, bytes | None]) -> bytes:
    """The file, in which entries of one bitmap's table are other: all ones for None, else bytes.

    The bytes go behind the end of the file; no refcount is changed, which readers do not mind.
    """
    size = 1 << struct.unpack_from(">I", data, 20)[0]
    changed = bytearray(data.ljust(-(-len(data) // size) * size, b"\0"))
    (bitmap,) = [one for one in bitmaps_in(data) if one.name == name]
    for index, content in clusters.items():
        entry = 1
        if content is not None:
            entry = len(changed)
            changed += content.ljust(size, b"\0")
        struct.pack_into(">Q", changed, bitmap.table + 8 * index, entry)
    return bytes(changed)
