"""The snapshot table as it is rewritten: entries kept byte for byte, and new ones.

Pure layout but for reading the table.  Source: the qcow2 document, "Snapshots"; the extra data of
a new entry is QEMU's: VM state size, disk size, icount.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow2.header import SNAPSHOTS_MAX, Header
from qcow2crypt.image.qcow2.snapshots import snapshot_entries

_FIXED = struct.Struct(">QIHHIIQII")
_EXTRA = struct.Struct(">QQQ")
_TABLE_MAX = 64 << 20
NAME_MAX = 255
"""Bytes of a name.  QEMU cuts a longer one off."""


@dataclass(frozen=True, slots=True)
class Row:
    """One snapshot, and its entry as it stands in the file, with the zeros behind it."""

    snapshot: Snapshot
    entry: bytes


def read_rows(file: HostFile, header: Header) -> list[Row]:
    """Every entry of the table.  Raises HeaderError when it is damaged."""
    rows = []
    start = header.snapshots_offset
    for snapshot, end in snapshot_entries(file, header):
        rows.append(Row(snapshot, file.pread(end - start, start)))
        start = end
    return rows


def new_row(
    rows: list[Row], name: str, *, l1_table_offset: int, l1_size: int, disk_size: int, date: int
) -> Row:
    """The entry for a new snapshot.  ``date`` in nanoseconds since 1970; the id is the next one.

    Raises ArgumentError for a name that cannot be, or when the table is full.
    """
    title = check_name(name)
    number = str(1 + max((_number(row.snapshot.id) for row in rows), default=0))
    seconds, nanoseconds = divmod(date, 10**9)
    seconds &= 0xFFFF_FFFF
    identifier = number.encode("ascii")
    fixed = _FIXED.pack(
        l1_table_offset,
        l1_size,
        len(identifier),
        len(title),
        seconds,
        nanoseconds,
        0,
        0,
        _EXTRA.size,
    )
    entry = fixed + _EXTRA.pack(0, disk_size, 0) + identifier + title
    entry += bytes(-len(entry) % 8)
    if len(rows) >= SNAPSHOTS_MAX or sum(len(r.entry) for r in rows) + len(entry) > _TABLE_MAX:
        raise ArgumentError(f"there is no room for one more snapshot: there are {len(rows)}")
    snapshot = Snapshot(
        l1_table_offset=l1_table_offset,
        l1_size=l1_size,
        id=number,
        name=name,
        date_seconds=seconds,
        date_nanoseconds=nanoseconds,
        vm_clock_nanoseconds=0,
        vm_state_size=0,
        disk_size=disk_size,
        icount=0,
    )
    return Row(snapshot, entry)


def check_name(name: str) -> bytes:
    """The name of a new snapshot as bytes.  Raises ArgumentError."""
    title = name.encode("utf-8", "surrogateescape")
    if b"\0" in title or len(title) > NAME_MAX:
        raise ArgumentError(
            f"the name of a snapshot has at most {NAME_MAX} bytes, and no NUL among them"
        )
    return title


def find(rows: list[Row], id_or_name: str, *, name_first: bool) -> Row | None:
    """The row of that id or name; where one is an id and another a name, the order decides."""
    for wanted in ("name", "id") if name_first else ("id", "name"):
        for row in rows:
            if getattr(row.snapshot, wanted) == id_or_name:
                return row
    return None


def _number(identifier: str) -> int:
    """An id as C reads a number: 0 where it is none."""
    return int(identifier) if identifier.isascii() and identifier.isdigit() else 0
