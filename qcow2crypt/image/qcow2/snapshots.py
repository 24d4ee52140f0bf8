"""The snapshot table and the bitmap directory, as far as a description needs them.

Source: the qcow2 document, "Snapshots" and "Bitmaps".  Entries are read one by one and only
inside the file, so a header that claims many of them costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.units import align_up

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_EXTRA_MAX = 1024
_TABLE_MAX = 64 << 20
_NO_ICOUNT = 2**64 - 1
_BITMAP = struct.Struct(">QIIBBHI")
_BITMAP_TYPE = 1
_FLAG_IN_USE, _FLAG_AUTO = 1, 2
_FLAGS_KNOWN = 0x7


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One dirty bitmap, as the directory describes it.

    ``granularity`` in bytes, ``at`` the host offset of the entry; ``auto`` says that it records
    writes, ``strange`` that there is something about it that no document tells.
    """

    name: str
    granularity: int
    in_use: bool
    auto: bool
    at: int
    table_offset: int
    table_entries: int
    flags: int
    strange: bool


def read_snapshots(file: HostFile, header: Header) -> Iterator[Snapshot]:
    """The snapshots in the order of the table.  Raises HeaderError when one runs out of bounds."""
    offset = header.snapshots_offset
    limit = min(file.size, offset + _TABLE_MAX)
    for number in range(header.nb_snapshots):
        fixed = _SNAPSHOT.unpack(_read(file, offset, _SNAPSHOT.size, limit, f"snapshot {number}"))
        l1_offset, l1_size, id_length, name_length, seconds, nanos, clock, vm_size, extra = fixed
        if extra > _EXTRA_MAX:
            raise HeaderError(
                "snapshot entry is not valid",
                field=f"snapshot {number}: extra data size",
                offset=offset + 36,
                found=str(extra),
                allowed=f"0 to {_EXTRA_MAX}",
            )
        length = extra + id_length + name_length
        tail = _read(file, offset + _SNAPSHOT.size, length, limit, f"snapshot {number}")
        extras = [int.from_bytes(tail[at : at + 8], "big") for at in range(0, extra - 7, 8)]
        names = tail[extra:]
        yield Snapshot(
            l1_table_offset=l1_offset,
            l1_size=l1_size,
            id=_text(names[:id_length]),
            name=_text(names[id_length:]),
            date_seconds=seconds,
            date_nanoseconds=nanos,
            vm_clock_nanoseconds=clock,
            vm_state_size=extras[0] if extras else vm_size,
            disk_size=extras[1] if len(extras) > 1 else header.size,
            icount=extras[2] if len(extras) > 2 and extras[2] != _NO_ICOUNT else None,
        )
        offset = align_up(offset + _SNAPSHOT.size + length, 8)


def read_bitmaps(file: HostFile, pointer: BitmapsPointer) -> Iterator[Bitmap]:
    """The bitmaps in the order of the directory.  Raises HeaderError."""
    offset = pointer.directory_offset
    limit = min(file.size, offset + pointer.directory_size)
    for number in range(pointer.count):
        fixed = _BITMAP.unpack(_read(file, offset, _BITMAP.size, limit, f"bitmap {number}"))
        table, entries, flags, kind, granularity_bits, name_length, extra = fixed
        if kind != _BITMAP_TYPE or granularity_bits > 63:
            raise HeaderError(
                "bitmap directory entry is not valid",
                field=f"bitmap {number}: type and granularity bits",
                offset=offset + 16,
                found=f"{kind} and {granularity_bits}",
                allowed="1 and 0 to 63",
            )
        start = offset + _BITMAP.size + extra
        name = _read(file, start, name_length, limit, f"bitmap {number}")
        in_use, auto = bool(flags & _FLAG_IN_USE), bool(flags & _FLAG_AUTO)
        yield Bitmap(
            name=_text(name),
            granularity=1 << granularity_bits,
            in_use=in_use,
            auto=auto,
            at=offset,
            table_offset=table,
            table_entries=entries,
            flags=flags,
            strange=bool(extra or flags & ~_FLAGS_KNOWN),
        )
        offset = align_up(start + name_length, 8)


def _read(file: HostFile, offset: int, length: int, limit: int, what: str) -> bytes:
    if offset + length > limit:
        raise HeaderError(
            "a table runs out of its bounds",
            field=what,
            offset=offset,
            found=f"{length} bytes",
            allowed=f"an end at or before {limit:#x}",
        )
    return file.pread(length, offset)


def _text(name: bytes) -> str:
    """A name as QEMU reads it: up to the first NUL."""
    return name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
