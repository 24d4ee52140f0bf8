"""The snapshot table, as far as a description needs it.

Source: the qcow2 document, "Snapshots".  Entries are read one by one and only
inside the file, so a header that claims many of them costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from qcow2crypt.errors import HeaderError, SnapshotNotFoundError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE
from qcow2crypt.image.qcow2.header import L1_BYTES_MAX, Header
from qcow2crypt.units import align_up

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_EXTRA_MAX = 1024
_TABLE_MAX = 64 << 20
_NO_ICOUNT = 2**64 - 1
DISK_SIZE_AT = _SNAPSHOT.size + 8
"""Where in an entry, if it is long enough, the size of the disk is."""


def read_snapshots(file: HostFile, header: Header) -> Iterator[Snapshot]:
    """The snapshots in the order of the table.  Raises HeaderError when one runs out of bounds."""
    return (snapshot for snapshot, _ in snapshot_entries(file, header))


def snapshot_entries(file: HostFile, header: Header) -> Iterator[tuple[Snapshot, int]]:
    """As ``read_snapshots``, each with the host offset behind its entry in the table."""
    offset = header.snapshots_offset
    limit = min(file.size, offset + _TABLE_MAX)
    for number in range(header.nb_snapshots):
        what = f"snapshot {number}"
        fixed = _SNAPSHOT.unpack(read_within(file, offset, _SNAPSHOT.size, limit, what))
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
        tail = read_within(file, offset + _SNAPSHOT.size, length, limit, what)
        extras = [int.from_bytes(tail[at : at + 8], "big") for at in range(0, extra - 7, 8)]
        names = tail[extra:]
        offset = align_up(offset + _SNAPSHOT.size + length, 8)
        snapshot = Snapshot(
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
        yield snapshot, offset


def find_snapshot(found: Sequence[Snapshot], id_or_name: str, image: str) -> Snapshot:
    """One of the snapshots of ``image``: as with qemu-img, any id before any name.

    Raises SnapshotNotFoundError, which tells those that there are.
    """
    for wanted in ("id", "name"):
        for one in found:
            if getattr(one, wanted) == id_or_name:
                return one
    names = ", ".join(f"{one.id} '{one.name}'" for one in found) or "none"
    raise SnapshotNotFoundError(
        f"'{image}' has no internal snapshot '{id_or_name}'; it has: {names}"
    )


def check_l1(file: HostFile, header: Header, snapshot: Snapshot) -> None:
    """Refuse what QEMU refuses of the L1 table of a snapshot.  Raises HeaderError."""
    limit = L1_BYTES_MAX // ENTRY_SIZE
    what = f"snapshot {snapshot.id} '{snapshot.name}'"
    if snapshot.l1_size > limit:
        raise HeaderError(
            "L1 table of a snapshot too large",
            field=f"{what}: L1 size",
            offset=entry_offset(file, header, snapshot) + 8,
            found=str(snapshot.l1_size),
            allowed=f"0 to {limit}",
        )
    end = snapshot.l1_table_offset + snapshot.l1_size * ENTRY_SIZE
    if snapshot.l1_table_offset % header.cluster_size or end >= 1 << 63:
        raise HeaderError(
            "L1 table offset of a snapshot is not valid",
            field=f"{what}: L1 table offset",
            offset=entry_offset(file, header, snapshot),
            found=hex(snapshot.l1_table_offset),
            allowed=f"a multiple of {header.cluster_size:#x}, the table's end below 2^63",
        )


def entry_offset(file: HostFile, header: Header, snapshot: Snapshot) -> int:
    """The host offset of the entry of a snapshot, which was read from this table."""
    start = header.snapshots_offset
    for one, end in snapshot_entries(file, header):
        if one == snapshot:
            break
        start = end
    return start


def read_within(file: HostFile, offset: int, length: int, limit: int, what: str) -> bytes:
    """Bytes that must end at or before ``limit``.  Raises HeaderError."""
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
