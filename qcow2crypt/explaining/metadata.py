"""Where the metadata of an image file lies: everything but L2 tables and what these name.

Gives claims (``regions.Claim``); never sees guest bytes or keys.  Source: the qcow2 document.
What is damaged is told in ``problems`` and the rest is still found.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcow2crypt.errors import FormatError
from qcow2crypt.explaining.guesttables import GuestTables
from qcow2crypt.explaining.regions import Claim, RegionKind
from qcow2crypt.image.qcow1.header import HEADER_SIZE
from qcow2crypt.image.qcow1.structure import Qcow1Structure
from qcow2crypt.image.qcow2.bitmapdirectory import read_directory
from qcow2crypt.image.qcow2.bitmapentries import BitmapEntry
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import EXT_END, BitmapsPointer
from qcow2crypt.image.qcow2.refcountblock import REFCOUNT_TABLE_OFFSET_MASK, refcounts_per_block
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import read_entries
from qcow2crypt.units import align_up

_EXTENSION_HEAD = 8
_BITMAP_ENTRIES_MAX = 1 << 22
"""Entries of bitmap tables that are looked at; a disk of 10 TiB needs some hundred a bitmap."""


def metadata_claims(tables: GuestTables, problems: list[str]) -> Iterator[Claim]:
    """The claims of header, extensions, L1 and refcount tables, snapshots, bitmaps, LUKS header.

    They come one by one: the only long ones are refcount blocks (one for each 2 GiB of a file with
    clusters of 64 KiB) and the clusters of bitmaps.
    """
    structure = tables.structure
    if isinstance(structure, Qcow1Structure):
        yield from _qcow1(structure)
    else:
        yield from _header_cluster(tables, structure)
        yield from _refcounts(tables, structure)
    for disk in tables.disks:
        if disk.l1_length:
            shown = disk.shown or "of the active disk"
            yield Claim(
                RegionKind.L1_TABLE, disk.l1_offset, disk.l1_length, shown, None, disk.snapshot
            )
    if isinstance(structure, Structure):
        yield from _snapshot_table(tables, structure)
        if structure.crypto is not None:
            crypto = structure.crypto
            yield Claim(RegionKind.LUKS_HEADER, crypto.offset, crypto.length, "with its key slots")
        if structure.bitmaps is not None:
            try:
                yield from _bitmaps(tables, structure.bitmaps, problems)
            except FormatError as error:
                problems.append(str(error))


def _qcow1(structure: Qcow1Structure) -> Iterator[Claim]:
    header = structure.header
    yield Claim(RegionKind.HEADER, 0, HEADER_SIZE, "version 1")
    if header.backing_file_offset:
        yield _backing_name(header.backing_file_offset, header.backing_file_size)


def _backing_name(offset: int, length: int) -> Claim:
    return Claim(RegionKind.BACKING_NAME, offset, length)


def _header_cluster(tables: GuestTables, structure: Structure) -> Iterator[Claim]:
    header = structure.header
    yield Claim(RegionKind.HEADER, 0, header.header_length, f"version {header.version}")
    end = header.header_length
    for extension in structure.extensions:
        length = _EXTENSION_HEAD + align_up(len(extension.data), 8)
        about = extension.name if extension.name != "unknown" else f"type {extension.type:#010x}"
        yield Claim(RegionKind.EXTENSION, extension.offset, length, about)
        end = extension.offset + length
    if end + _EXTENSION_HEAD <= (header.backing_file_offset or header.cluster_size):
        mark = int.from_bytes(tables.file.pread(4, end), "big")
        if mark == EXT_END:
            yield Claim(RegionKind.EXTENSION, end, _EXTENSION_HEAD, "end of the extensions")
    if header.backing_file_offset:
        yield _backing_name(header.backing_file_offset, header.backing_file_size)


def _refcounts(tables: GuestTables, structure: Structure) -> Iterator[Claim]:
    header = structure.header
    size, offset = header.cluster_size, header.refcount_table_offset
    length = header.refcount_table_clusters * size
    yield Claim(RegionKind.REFCOUNT_TABLE, offset, length, f"{length // ENTRY_SIZE} entries")
    covered = refcounts_per_block(size, header.refcount_order) * size
    for index, entry in read_entries(tables.file, offset, length // ENTRY_SIZE):
        host = entry & REFCOUNT_TABLE_OFFSET_MASK
        about = f"{index}, of the clusters from host offset {index * covered:#x} on"
        yield Claim(RegionKind.REFCOUNT_BLOCK, host, size, about)


def _snapshot_table(tables: GuestTables, structure: Structure) -> Iterator[Claim]:
    at = structure.header.snapshots_offset
    for disk in tables.disks:
        if disk.snapshot is not None:
            length = disk.table_entry_end - at
            yield Claim(
                RegionKind.SNAPSHOT_TABLE, at, length, f"entry of {disk.shown}", None, disk.snapshot
            )
            at = disk.table_entry_end


def _bitmaps(tables: GuestTables, pointer: BitmapsPointer, problems: list[str]) -> Iterator[Claim]:
    yield Claim(
        RegionKind.BITMAP_DIRECTORY,
        pointer.directory_offset,
        pointer.directory_size,
        f"{pointer.nb_bitmaps} bitmaps" if pointer.nb_bitmaps != 1 else "1 bitmap",
    )
    room = _BITMAP_ENTRIES_MAX
    for entry in read_directory(tables.file, pointer):
        length = entry.table_entries * ENTRY_SIZE
        shown = f"of bitmap '{entry.shown}'"
        yield Claim(RegionKind.BITMAP_TABLE, entry.table_offset, length, shown)
        room -= min(entry.table_entries, max(0, tables.file.size - entry.table_offset))
        if room < 0:
            problems.append("the tables of the bitmaps are too long to look at them all")
            return
        yield from _bitmap_data(tables, entry)


def _bitmap_data(tables: GuestTables, entry: BitmapEntry) -> Iterator[Claim]:
    size = tables.cluster_size
    for index, word in read_entries(tables.file, entry.table_offset, entry.table_entries):
        if host := word & OFFSET_MASK:
            first = index * size * 8 << entry.granularity_bits
            about = f"of bitmap '{entry.shown}', from guest offset {first:#x} on"
            yield Claim(RegionKind.BITMAP_DATA, host, size, about)
