"""What the page knows of an image: maps, extents, some ciphertext, and the key if it was asked for.

Plain values for JSON.  Ciphertext is taken as it stands in the file: nothing is decrypted here, and
what is not encrypted is left out.  The tables are read by the modules that know them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from typing import Any

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.explaining.filemap import FileMap, file_map
from qcow2crypt.explaining.page.cells import Cells, add_regions, cells_for, link
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, ExtentKind
from qcow2crypt.image.qcow2.header import CRYPT_AES, INCOMPAT_DATA_FILE
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.units import SECTOR_SIZE, align_down, align_up

BYTES_MAX = 1 << 20
"""So much ciphertext goes into a page."""
EXTENTS_MAX = 4096
TABLES_MAX = 1024
_SHOWN_KEY_BYTES = 16


def picture(
    image: Image, *, offset: int | None = None, key: bytes | None = None, bytes_max: int = BYTES_MAX
) -> dict[str, Any]:
    """All that a page shows of ``image``.

    ``offset`` is the guest offset that the page begins with: what lies before it goes in last.
    None begins with what is stored first.
    ``key`` is None, or the 16 bytes that whoever gets the page shall have.  Raises
    UnsupportedFeatureError for what is not legacy AES, ArgumentError for an offset that the disk
    does not have, SourceError, FormatError.
    """
    image = _checked(image, offset or 0, key)
    structure = image.structure
    header = structure.header
    extents = list(_some(image.own_extents()))
    whole = file_map(image.host_files()[0], structure)
    disk = cells_for(image.size, header.cluster_size)
    file = cells_for(whole.file_size, header.cluster_size)
    add_regions(file, whole.regions)
    outside = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
    backed = structure.backing_file is not None
    _add_extents(disk, file, image.own_extents(), backed=backed, outside=outside)
    runs = list(_runs(image, offset or 0, bytes_max))
    return {
        "name": _name(image),
        "fileSize": whole.file_size,
        "diskSize": image.size,
        "clusterSize": header.cluster_size,
        "version": header.version,
        "l2Entries": header.l2_entries,
        "l1Offset": header.l1_table_offset,
        "entrySize": 16 if header.extended_l2 else 8,
        "l2Tables": _l2_tables(whole),
        "backingFile": structure.backing_file,
        "dataFile": structure.data_file if outside else None,
        "snapshots": [one.name for one in image.snapshots()[:TABLES_MAX]],
        "sector": _first_sector(runs) if offset is None else offset // SECTOR_SIZE,
        "diskCells": disk.to_list(),
        "fileCells": file.to_list(),
        "extents": [_extent(extent, backed=backed) for extent in extents[:EXTENTS_MAX]],
        "runs": runs,
        "leftOut": _left_out(image, whole, extents, runs),
        "key": None if key is None else key.hex(),
    }


def _checked(image: Image, offset: int, key: bytes | None) -> Qcow2Image:
    if not isinstance(image, Qcow2Image) or image.structure.header.crypt_method != CRYPT_AES:
        raise UnsupportedFeatureError(
            "the page shows how legacy AES encrypts sectors, and this is no qcow2 image with it",
            f"'{_name(image)}'; 'qcow2crypt map' shows where its data lies",
        )
    if not 0 <= offset < max(image.size, 1):
        raise ArgumentError(
            f"guest offset {offset:#x} is not on the disk, which has {image.size} bytes"
        )
    if key is not None and len(key) != _SHOWN_KEY_BYTES:
        raise ArgumentError(f"a key of legacy AES has {_SHOWN_KEY_BYTES} bytes, not {len(key)}")
    return image


def _name(image: Image) -> str:
    """Without the folder: that belongs to the machine, not to the image."""
    return os.path.basename(image.name)  # noqa: PTH119 - a name as it was typed


def _some(extents: Iterable[Extent]) -> Iterator[Extent]:
    """As many as the page lists, and one more if there are more."""
    for count, extent in enumerate(extents):
        if count > EXTENTS_MAX:
            return
        yield extent


def _add_extents(
    disk: Cells, file: Cells, extents: Iterable[Extent], *, backed: bool, outside: bool
) -> None:
    for one in extents:
        disk.add(_kind(one, backed=backed), one.guest_offset, one.length)
        if one.host_offset is not None and not outside:
            # A compressed cluster: the cell where it begins.
            length = 1 if one.kind is ExtentKind.COMPRESSED else one.length
            link(disk, file, one.guest_offset, one.host_offset, length)


def _kind(extent: Extent, *, backed: bool) -> str:
    is_below = backed and extent.kind is ExtentKind.UNALLOCATED
    return "backing" if is_below else extent.kind.value


def _extent(extent: Extent, *, backed: bool) -> dict[str, Any]:
    return {
        "at": extent.guest_offset,
        "size": extent.length,
        "kind": _kind(extent, backed=backed),
        "host": extent.host_offset,
    }


def _l2_tables(whole: FileMap) -> list[list[int]]:
    """L1 index order: the guest offset from which on an L2 table maps, and where it lies."""
    found = {
        claim.guest_offset: claim.host_offset
        for region in whole.regions
        for claim in region.claims
        if claim.kind is RegionKind.L2_TABLE
        and claim.snapshot is None
        and claim.guest_offset is not None
    }
    return [[guest, host] for guest, host in sorted(found.items())[:TABLES_MAX]]


def _runs(image: Qcow2Image, offset: int, bytes_max: int) -> Iterator[dict[str, Any]]:
    """Ciphertext by runs of sectors: those from ``offset`` on, then those before it."""
    start = align_down(offset, image.structure.header.cluster_size)
    left = align_down(bytes_max, SECTOR_SIZE)
    for first, end in ((start, image.size), (0, start)):
        for extent in image.own_extents(first, end - first) if first < end else ():
            if extent.kind is not ExtentKind.DATA or extent.host_offset is None:
                continue
            if not left:
                return
            length = min(align_up(extent.length, SECTOR_SIZE), left)
            data = image.data_file.pread(length, extent.host_offset)
            left -= length
            yield {
                "first": extent.guest_offset // SECTOR_SIZE,
                "bytes": base64.b64encode(data.ljust(length, b"\0")).decode("ascii"),
            }


def _first_sector(runs: list[dict[str, Any]]) -> int:
    """The first that is stored, but rather not sector 0: its IV is all zeros, and shows nothing."""
    return max(int(runs[0]["first"]), 1) if runs else 0


def _left_out(
    image: Qcow2Image, whole: FileMap, extents: list[Extent], runs: list[dict[str, Any]]
) -> list[str]:
    """What the page does not show, in sentences."""
    found = []
    stored = sum(one.length for one in image.own_extents() if one.kind is ExtentKind.DATA)
    taken = sum(len(run["bytes"]) // 4 * 3 for run in runs)
    if stored > taken:
        found.append(
            f"This page holds {taken // 1024} KiB of ciphertext, the image {stored // 1024} KiB. "
            "Another part: qcow2crypt explain --html FILE --offset N IMAGE."
        )
    if len(extents) > EXTENTS_MAX:
        found.append(f"Places are known of the first {EXTENTS_MAX} ranges of the disk only.")
    if not whole.complete:
        found.append("The map of the file is not complete: " + "; ".join(whole.problems))
    return found
