"""What lies at a host offset of a qcow2 file?  For messages about differences.

A second, small reader of the tables, on purpose not the package's own.  Knows standard
clusters only, which is all that qemu-img convert writes.  Follows the qcow2 document.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct(">4sIQIIQIIQQI")
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_SECTOR = 512


def place_of(path: Path, offset: int) -> str:
    """Words for the byte at ``offset``: ``L2 table 3``, ``guest sector 17``, ``free cluster``."""
    data = path.read_bytes()
    if offset >= len(data):
        return "behind the end of the file"
    if data[:4] != b"QFI\xfb":
        return f"sector {offset // _SECTOR} of a raw file"
    fields = _HEADER.unpack_from(data)
    bits, l1_size, l1_offset, table_offset, table_clusters = (
        fields[4],
        fields[7],
        fields[8],
        fields[9],
        fields[10],
    )
    size = 1 << bits
    cluster = offset & -size
    if cluster == 0:
        return f"byte {offset} of the header cluster"
    if table_offset <= offset < table_offset + table_clusters * size:
        return f"entry {(offset - table_offset) // 8} of the refcount table"
    if l1_offset <= offset < l1_offset + l1_size * 8:
        return f"entry {(offset - l1_offset) // 8} of the L1 table"
    for number, entry in enumerate(_table(data, table_offset, table_clusters * size // 8)):
        if entry & -512 == cluster:
            return f"refcount {(offset - cluster) // 2} of refcount block {number}"
    for number, entry in enumerate(_table(data, l1_offset, l1_size)):
        table = entry & _OFFSET
        if table == cluster and table:
            return f"entry {(offset - cluster) // 8} of L2 table {number}"
        for index, value in enumerate(_table(data, table, size // 8) if table else ()):
            if value & _OFFSET == cluster:
                guest = (number * (size // 8) + index) * size + offset - cluster
                return f"guest offset {guest:#x} (guest sector {guest // _SECTOR})"
    return "a cluster that nothing points to"


def _table(data: bytes, offset: int, entries: int) -> tuple[int, ...]:
    count = max(0, min(entries, (len(data) - offset) // 8))
    return struct.unpack_from(f">{count}Q", data, offset)
