"""Where do two files or guest disks differ, and what lies there?  For messages about differences.

Has a second, small reader of the tables, on purpose not the package's own.  It knows standard
clusters only, which is all that qemu-img convert writes.  Follows the qcow2 document.
"""

from __future__ import annotations

import struct
from pathlib import Path

import qcow2crypt
from qcow2crypt.testing.places import first_different_byte

_HEADER = struct.Struct(">4sIQIIQIIQQI")
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_SECTOR = 512
_STEP = 1 << 22


def first_difference(first: Path, second: Path) -> int | None:
    """The offset of the first byte that differs; the shorter length if one is cut; else None."""
    with first.open("rb") as one, second.open("rb") as two:
        offset = 0
        while True:
            left, right = one.read(_STEP), two.read(_STEP)
            if left != right:
                return offset + first_different_byte(left, right)
            if not left:
                return None
            offset += len(left)


def host_place(image: Path, guest_offset: int) -> str:
    """Where ``guest_offset`` lies in an image, as our own map has it, which may be at fault too."""
    try:
        with qcow2crypt.open(image, b"") as disk:
            extent = next(iter(disk.extents(guest_offset, 1)))
    except Exception as error:  # noqa: BLE001 - a message must not hide the difference
        return f"host offset unknown ({error})"
    host = "none" if extent.host_offset is None else f"{extent.host_offset:#x}"
    return f"host offset {host} ({extent.kind.value})"


def peek(path: Path, offset: int) -> str:
    """Some bytes of a file, for a person."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(32).hex(" ", 4) or "(end of file)"


def place_of(path: Path, offset: int) -> str:
    """Words for the byte at ``offset``: ``entry 5 of L2 table 3``, ``guest offset 0x200 ...``."""
    data = path.read_bytes()
    if offset >= len(data):
        return "behind the end of the file"
    if data[:4] != b"QFI\xfb":
        return f"byte {offset % _SECTOR} of sector {offset // _SECTOR} of a raw file"
    fields = _HEADER.unpack_from(data)
    size = 1 << fields[4]
    l1_size, l1_offset, table_offset, table_clusters = fields[7:11]
    table_end = table_offset + table_clusters * size
    for name, start, end, unit in (
        ("byte {} of the header cluster", 0, size, 1),
        ("entry {} of the refcount table", table_offset, table_end, 8),
        ("entry {} of the L1 table", l1_offset, l1_offset + l1_size * 8, 8),
    ):
        if start <= offset < end:
            return name.format((offset - start) // unit)
    cluster = offset & -size
    for number, entry in enumerate(_table(data, table_offset, table_clusters * size // 8)):
        if entry & -_SECTOR == cluster:
            return f"refcount {(offset - cluster) // 2} of refcount block {number}"
    return _place_of_data(data, offset, size, _table(data, l1_offset, l1_size))


def _place_of_data(data: bytes, offset: int, size: int, l1_table: tuple[int, ...]) -> str:
    cluster, entries = offset & -size, size // 8
    for number, l1_entry in enumerate(l1_table):
        table = l1_entry & _OFFSET
        if not table:
            continue
        if table == cluster:
            return f"entry {(offset - cluster) // 8} of L2 table {number}"
        for index, entry in enumerate(_table(data, table, entries)):
            if entry & _OFFSET == cluster:
                guest = (number * entries + index) * size + offset - cluster
                return f"guest offset {guest:#x} (guest sector {guest // _SECTOR})"
    return "a cluster that nothing points to"


def _table(data: bytes, offset: int, entries: int) -> tuple[int, ...]:
    count = max(0, min(entries, (len(data) - offset) // 8))
    return struct.unpack_from(f">{count}Q", data, offset)
