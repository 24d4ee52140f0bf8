"""The small tables that a census walks: the snapshot table, bitmap directories, entries.

Reads them as ``qemu-img check`` does, so that what it cannot read we cannot read either.
Source: the qcow2 document, "Snapshots" and "Bitmaps".
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import SNAPSHOTS_MAX, Header
from qcow2crypt.image.qcow2.runs import single_entries
from qcow2crypt.image.qcow2.tables import read_table
from qcow2crypt.units import align_up, div_up

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_SNAPSHOT_TABLE_MAX = 64 << 20
_EXTRA_MAX = 1024
_EXTRA_NEEDED = 16
_BITMAP = struct.Struct(">QIIBBHI")
_BITMAP_FLAGS_KNOWN = 0x7
_BITMAP_TABLE_MAX = 0x8000000
_BITMAP_BYTES_MAX = 0x2000_0000
_IN_USE = 1
_BITMAP_NAME_MAX = 1023
_BITMAP_RESERVED = 0xFF00_0000_0000_01FE
_OFFSET_MAX = 1 << 63
_PART = 1 << 16


class BadTableError(Exception):
    """A table cannot be read on.  It was reported; it never leaves the census."""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """What a census needs of one snapshot.

    ``end`` is the host offset behind its table entry, ``raw`` the entry as it ought to be.
    """

    shown: str
    l1_offset: int
    l1_size: int
    end: int
    raw: bytes


def read_parts(file: HostFile, offset: int, count: int) -> Iterator[tuple[int, array[int]]]:
    """A table at a host offset, part by part, each with the index where it begins.

    Up to the end of the file.
    """
    count = max(0, min(count, -(-(file.size - offset) // ENTRY_SIZE)))
    for index in range(0, count, _PART):
        length = min(_PART, count - index)
        yield index, read_table(file, offset + index * ENTRY_SIZE, length)


def read_entries(file: HostFile, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """The entries of a table that are not 0, each with its index."""
    for start, part in read_parts(file, offset, count):
        yield from ((start + index, entry) for index, entry, _ in single_entries(part))


def snapshot_rows(
    file: HostFile, header: Header, findings: Findings, *, repair: bool = False
) -> tuple[SnapshotRow, ...]:
    """Every entry of the snapshot table, as a repair leaves it.  Raises BadTableError.

    What a repair would take away or add is a corruption; without ``repair``, what is more than
    the format allows ends the check.
    """
    rows: list[SnapshotRow] = []
    size = 0
    offset = header.snapshots_offset
    count = header.nb_snapshots
    if count > SNAPSHOTS_MAX:
        if not repair:
            findings.error(f"{count} snapshots are too many; -r all drops the last ones")
            raise BadTableError("the snapshot table is too large")
        findings.corruption("overhanging snapshots", count - SNAPSHOTS_MAX, repaired=True)
    for number in range(min(count, SNAPSHOTS_MAX)):
        fixed = file.pread(_SNAPSHOT.size, offset)
        l1_offset, l1_size, id_length, name_length, *_, vm_size, extra = _SNAPSHOT.unpack(fixed)
        kept = file.pread(min(extra, _EXTRA_MAX), offset + _SNAPSHOT.size)
        if extra > _EXTRA_MAX:
            if not repair:
                findings.error(
                    f"too much extra metadata in snapshot table entry {number}; -r all drops it"
                )
                raise BadTableError("a snapshot has too much extra data")
            text = f"snapshot table entry {number}: too much extra metadata"
            findings.corruption(text, repaired=True)
        if header.version >= 3 and extra < _EXTRA_NEEDED:
            text = f"snapshot table entry {number} is incomplete"
            findings.corruption(text, repaired=repair)
            whole = vm_size.to_bytes(8, "big") + header.guest_size.to_bytes(8, "big")
            kept = (kept if extra >= 8 else b"") + whole[len(kept) if extra >= 8 else 0 :]
        names = file.pread(id_length + name_length, offset + _SNAPSHOT.size + extra)
        offset = align_up(offset + _SNAPSHOT.size + extra + id_length + name_length, 8)
        size = align_up(size + _SNAPSHOT.size + len(kept) + len(names), 8)
        if size > _SNAPSHOT_TABLE_MAX or offset - header.snapshots_offset > 2**31 - 1:
            if not repair:
                findings.error("the snapshot table is too large; -r all drops the last snapshots")
                raise BadTableError("the snapshot table is too large")
            findings.corruption("overhanging snapshots", count - number, repaired=True)
            break
        shown = f"{_text(names[:id_length])} ({_text(names[id_length:])})"
        raw = fixed[:-4] + len(kept).to_bytes(4, "big") + kept + names
        rows.append(SnapshotRow(shown, l1_offset, l1_size, offset, raw))
    return tuple(rows)


def bitmap_tables(
    file: HostFile, header: Header, pointer: BitmapsPointer, findings: Findings
) -> list[tuple[int, int]]:
    """Offset and end of the table of every bitmap.  Raises BadTableError."""
    tables = []
    offset, end = pointer.directory_offset, pointer.directory_offset + pointer.directory_size
    for number in range(pointer.count):
        if offset + _BITMAP.size > end:
            raise _broken(findings, number, "runs out of the directory")
        table, entries, flags, kind, granularity, name, extra = _BITMAP.unpack(
            file.pread(_BITMAP.size, offset)
        )
        bad = (
            (kind != 1 and "its type is not 1")
            or (not name and "it has no name")
            or (name > _BITMAP_NAME_MAX and "its name is too long")
            or (extra and "it has extra data")
            or (flags & ~_BITMAP_FLAGS_KNOWN and "it has unknown flags")
            or (not 9 <= granularity <= 31 and "its granularity is not 512 to 2 GiB")
            or (entries > _BITMAP_TABLE_MAX // ENTRY_SIZE and "its table is too large")
            or _ill_sized(header, entries, granularity, in_use=bool(flags & _IN_USE))
            or ((not table or table % header.cluster_size) and "its table is not cluster aligned")
            or (table >= _OFFSET_MAX and "its table is outside any file")
        )
        if bad:
            raise _broken(findings, number, bad)
        offset = align_up(offset + _BITMAP.size + extra + name, 8)
        tables.append((table, table + entries * ENTRY_SIZE))
    if offset != end:
        raise _broken(findings, pointer.count, "there is more in the directory")
    return tables


def bitmap_clusters(
    file: HostFile, header: Header, start: int, end: int, findings: Findings
) -> Iterator[int]:
    """The host offsets that a part of a bitmap table names.  Raises BadTableError."""
    for _, entry in read_entries(file, start, (end - start) // ENTRY_SIZE):
        host = entry & OFFSET_MASK
        if entry & _BITMAP_RESERVED or host % header.cluster_size or (host and entry & 1):
            findings.corruption(f"bitmap table entry {entry:x} is not valid")
            raise BadTableError(f"a bitmap table has the entry {entry:x}")
        if host:
            yield host


def _ill_sized(header: Header, entries: int, granularity: int, *, in_use: bool) -> str:
    """Does a bitmap have room for one bit for each piece of the disk, and not far too much?"""
    length = entries * header.cluster_size
    if length > _BITMAP_BYTES_MAX:
        return "it is too large"
    needed = div_up(div_up(div_up(header.size, 1 << granularity), 8), header.cluster_size)
    if not in_use and entries != needed:
        return f"its table has {entries} entries, the disk needs {needed}"
    return ""


def _broken(findings: Findings, number: int, why: str) -> BadTableError:
    findings.corruption(f"bitmap directory entry {number} cannot be used: {why}")
    return BadTableError(f"bitmap directory entry {number}: {why}")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
