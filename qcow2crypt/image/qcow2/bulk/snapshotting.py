"""Make, apply and delete internal snapshots: each is one switch of the header.

Everything new is written beside the old (``switch``, ``bulk``), so that a crash leaves the old or
the new state.  The file must be at rest: nothing of it waits in memory.

Knows tables and counts; never sees keys or guest bytes.  Source: the qcow2 document, "Snapshots".
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable, Iterator

from qcow2crypt.errors import (
    FormatError,
    Qcow2CryptError,
    SnapshotNotFoundError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow2.bulk.references import L1References
from qcow2crypt.image.qcow2.bulk.snapshottable import Row, check_name, find, new_row, read_rows
from qcow2crypt.image.qcow2.bulk.switch import Switch
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, L1_BYTES_MAX, Header
from qcow2crypt.image.qcow2.snapshots import DISK_SIZE_AT, check_l1, entry_offset
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.units import SECTOR_SIZE, div_up


def create_snapshot(
    file: HostFile, structure: Structure, name: str, *, clock: Callable[[], int] = time.time_ns
) -> Snapshot:
    """Keep the disk as it is now under ``name``; gives the snapshot with its id.

    Raises ArgumentError, UnsupportedFeatureError with an external data file, TargetError when a
    count does not fit the refcount width, FormatError.
    """
    _refuse_data_file(structure)
    check_name(name)
    header = structure.header
    rows = read_rows(file, header)
    with _switching(file, header) as switch:
        references = L1References(switch)
        l1 = references.read_l1(header.l1_table_offset, header.l1_size)
        references.count(l1, 1)
        switch.refuse_overflow()
        shared = references.with_right_flags(l1, sharers=2)
        row = new_row(
            rows,
            name,
            l1_table_offset=references.place_l1(shared),
            l1_size=header.l1_size,
            disk_size=header.guest_size,
            date=clock(),
        )
        references.count_region(header.l1_table_offset, header.l1_size * ENTRY_SIZE, -1)
        active = references.place_l1(shared)
        fields = _place_table(switch, references, rows, [*rows, row])
        switch.commit(l1_table_offset=active, **fields)
    return row.snapshot


def apply_snapshot(file: HostFile, structure: Structure, id_or_name: str) -> Snapshot:
    """Let the disk be again what it was: content and size.  What it was until now is lost.

    An id goes before a name.  Raises SnapshotNotFoundError, FormatError, TargetError, and
    UnsupportedFeatureError where the image has bitmaps, which do not know of the change.
    """
    header = structure.header
    row = _found(read_rows(file, header), file, id_or_name, name_first=False)
    if structure.bitmaps is not None:
        raise UnsupportedFeatureError(
            "applying a snapshot to an image with bitmaps",
            "remove them first, with 'qemu-img bitmap --remove'",
        )
    snapshot = row.snapshot
    size = snapshot.disk_size // SECTOR_SIZE * SECTOR_SIZE
    check_l1(file, header, snapshot)
    needed = _l1_entries(file, header, snapshot, size)
    with _switching(file, header) as switch:
        references = L1References(switch)
        old = references.read_l1(header.l1_table_offset, header.l1_size)
        l1 = references.read_l1(snapshot.l1_table_offset, snapshot.l1_size)
        l1.extend(array("Q", bytes(ENTRY_SIZE * (needed - len(l1)))))
        references.count(l1, 1)  # up before down: no count passes through 0
        references.count(old, -1)
        references.count_region(header.l1_table_offset, header.l1_size * ENTRY_SIZE, -1)
        switch.refuse_overflow()
        active = references.place_l1(references.with_right_flags(l1))
        switch.commit(l1_table_offset=active, l1_size=len(l1), size=size)
    _give_space_back(switch)
    return snapshot


def delete_snapshot(file: HostFile, structure: Structure, id_or_name: str) -> Snapshot:
    """Let go of a snapshot and of what only it needs.  A name goes before an id.

    Raises SnapshotNotFoundError, FormatError, TargetError.
    """
    header = structure.header
    rows = read_rows(file, header)
    row = _found(rows, file, id_or_name, name_first=True)
    snapshot = row.snapshot
    check_l1(file, header, snapshot)
    with _switching(file, header) as switch:
        references = L1References(switch)
        gone = references.read_l1(snapshot.l1_table_offset, snapshot.l1_size)
        references.count(gone, -1)
        references.count_region(snapshot.l1_table_offset, snapshot.l1_size * ENTRY_SIZE, -1)
        l1 = references.read_l1(header.l1_table_offset, header.l1_size)
        right = references.with_right_flags(l1)
        active = header.l1_table_offset
        if right != l1:
            references.count_region(active, header.l1_size * ENTRY_SIZE, -1)
            active = references.place_l1(right)
        left = [one for one in rows if one is not row]
        fields = _place_table(switch, references, rows, left)
        switch.commit(l1_table_offset=active, **fields)
    _give_space_back(switch)
    return snapshot


@contextlib.contextmanager
def _switching(file: HostFile, header: Header) -> Iterator[Switch]:
    """A switch; when it comes to nothing, what was written behind the end is cut off again."""
    end = file.size
    switch = Switch.of(file, header)
    try:
        yield switch
    except BaseException:
        if switch.header is header and file.size > end:
            with contextlib.suppress(Qcow2CryptError):
                file.truncate(end)
        raise


def _give_space_back(switch: Switch) -> None:
    """Make holes of what is free now.  The new state stands: nothing depends on this."""
    size = switch.header.cluster_size
    with contextlib.suppress(Qcow2CryptError):
        for first, count in switch.freed():
            if not switch.file.punch_hole(first * size, count * size):
                return


def _place_table(
    switch: Switch, references: L1References, old: list[Row], new: list[Row]
) -> dict[str, int]:
    """Write a new snapshot table; gives the header fields that name it."""
    header = switch.header
    references.count_region(header.snapshots_offset, sum(len(row.entry) for row in old), -1)
    data = b"".join(row.entry for row in new)
    if not data:
        return {"nb_snapshots": 0, "snapshots_offset": 0}
    count = div_up(len(data), header.cluster_size)
    offset = switch.allocate(count) * header.cluster_size
    switch.file.pwrite(data.ljust(count * header.cluster_size, b"\0"), offset)
    return {"nb_snapshots": len(new), "snapshots_offset": offset}


def _found(rows: list[Row], file: HostFile, id_or_name: str, *, name_first: bool) -> Row:
    row = find(rows, id_or_name, name_first=name_first)
    if row is None:
        names = ", ".join(f"{one.snapshot.id} '{one.snapshot.name}'" for one in rows) or "none"
        raise SnapshotNotFoundError(
            f"'{file.name}' has no internal snapshot '{id_or_name}'; it has: {names}"
        )
    return row


def _refuse_data_file(structure: Structure) -> None:
    if structure.header.incompatible_features & INCOMPAT_DATA_FILE:
        raise UnsupportedFeatureError("an internal snapshot of an image with an external data file")


def _l1_entries(file: HostFile, header: Header, snapshot: Snapshot, size: int) -> int:
    """How long the L1 table of a disk of ``size`` bytes has to be.  Raises FormatError."""
    limit = L1_BYTES_MAX // ENTRY_SIZE
    needed = div_up(size, header.l2_coverage)
    if needed > limit:
        raise FormatError(
            "the disk of a snapshot is too large for an L1 table",
            field=f"snapshot {snapshot.id} '{snapshot.name}': disk size",
            offset=entry_offset(file, header, snapshot) + DISK_SIZE_AT,
            found=str(snapshot.disk_size),
            allowed=f"at most {limit * header.l2_coverage}",
        )
    return max(snapshot.l1_size, needed)
