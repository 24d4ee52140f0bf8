"""The small tables that a census walks: the snapshot table, bitmap directories, entries.

Reads them as ``qemu-img check`` does, so that what it cannot read we cannot read either.
Source: the qcow2 document, "Snapshots" and "Bitmaps".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmapdirectory import read_directory
from qcow2crypt.image.qcow2.bitmapentries import is_table_entry
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import SNAPSHOTS_MAX, Header
from qcow2crypt.image.qcow2.tables import read_entries
from qcow2crypt.units import align_up

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_SNAPSHOT_TABLE_MAX = 64 << 20
_EXTRA_MAX = 1024
_EXTRA_NEEDED = 16


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
    tables: list[tuple[int, int]] = []
    end = pointer.directory_offset
    try:
        for entry in read_directory(file, pointer):
            bad = entry.fault(header.guest_size, header.cluster_size)
            if bad:
                raise _broken(findings, len(tables), bad)
            table = entry.table_offset
            tables.append((table, table + entry.table_entries * ENTRY_SIZE))
            end = entry.end
    except HeaderError as error:
        raise _broken(findings, len(tables), str(error)) from None
    if end != pointer.directory_offset + pointer.directory_size:
        raise _broken(findings, pointer.nb_bitmaps, "there is more in the directory")
    return tables


def bitmap_clusters(
    file: HostFile, header: Header, start: int, end: int, findings: Findings
) -> Iterator[int]:
    """The host offsets that a part of a bitmap table names.  Raises BadTableError."""
    for _, entry in read_entries(file, start, (end - start) // ENTRY_SIZE):
        if not is_table_entry(entry, header.cluster_size):
            findings.corruption(f"bitmap table entry {entry:x} is not valid")
            raise BadTableError(f"a bitmap table has the entry {entry:x}")
        if host := entry & OFFSET_MASK:
            yield host


def _broken(findings: Findings, number: int, why: str) -> BadTableError:
    findings.corruption(f"bitmap directory entry {number} cannot be used: {why}")
    return BadTableError(f"bitmap directory entry {number}: {why}")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
