"""What the page knows of an image: maps, extents, some ciphertext, and the key if it was asked for.

Plain values for JSON.  Ciphertext is taken as it stands in the file: nothing is decrypted here, and
what is not encrypted is left out.  The tables are read by the modules that know them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

from qcow2crypt.crypt.legacy_aes import KEY_SIZE
from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.explaining.filemap import FileMap, file_map
from qcow2crypt.explaining.page.cells import add_regions, cells_for, link
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
_EXACT_MAX = 2**53
"""Numbers of JavaScript are exact up to here."""


def picture(
    image: Image, *, offset: int | None = None, key: bytes | None = None, bytes_max: int = BYTES_MAX
) -> dict[str, Any]:
    """All that a page shows of ``image``.

    ``offset`` is the guest offset that the page begins with: what lies before it goes in last.
    None begins with what is stored first.  ``key`` is None, or the 16 bytes that whoever gets the
    page shall have.  Raises UnsupportedFeatureError for what is not legacy AES or too large for
    the numbers of a page, ArgumentError for an offset that the disk does not have, SourceError,
    FormatError.
    """
    image = _checked(image, offset or 0, key)
    structure = image.structure
    header = structure.header
    whole = file_map(image.host_files()[0], structure)
    tables = _l2_tables(whole)
    guest = _GuestDisk(image, whole.file_size, bytes_max)
    guest.walk(offset or 0)
    add_regions(guest.file, whole.regions)
    return {
        "name": _name(image),
        "fileSize": whole.file_size,
        "diskSize": image.size,
        "clusterSize": header.cluster_size,
        "version": header.version,
        "l2Entries": header.l2_entries,
        "l1Offset": header.l1_table_offset,
        "entrySize": 16 if header.extended_l2 else 8,
        "l2Tables": tables[:TABLES_MAX],
        "l2Complete": whole.complete and len(tables) <= TABLES_MAX,
        "backingFile": structure.backing_file,
        "dataFile": structure.data_file if guest.outside else None,
        "snapshots": [one.name for one in image.snapshots()[:TABLES_MAX]],
        "sector": _first_sector(guest.runs) if offset is None else offset // SECTOR_SIZE,
        "diskCells": guest.disk.to_list(),
        "fileCells": guest.file.to_list(),
        "extents": sorted(guest.extents, key=lambda extent: int(extent["at"])),
        "runs": guest.runs,
        "leftOut": [*guest.left_out(), *_left_out(whole)],
        "key": None if key is None else key.hex(),
    }


def _checked(image: Image, offset: int, key: bytes | None) -> Qcow2Image:
    if not isinstance(image, Qcow2Image) or image.structure.header.crypt_method != CRYPT_AES:
        raise UnsupportedFeatureError(
            "the page shows how legacy AES encrypts sectors, and this is no qcow2 image with it",
            f"'{_name(image)}'; 'qcow2crypt map' shows where its data lies",
        )
    if image.size > _EXACT_MAX:
        raise UnsupportedFeatureError(
            f"a disk of {image.size} bytes is too large for the numbers of a page",
            f"'{_name(image)}'; 'qcow2crypt explain --offset N' takes any",
        )
    if not 0 <= offset < image.size:
        raise ArgumentError(
            f"guest offset {offset:#x} is not on the disk, which has {image.size} bytes"
        )
    if key is not None and len(key) != KEY_SIZE:
        raise ArgumentError(f"a key of legacy AES has {KEY_SIZE} bytes, not {len(key)}")
    return image


def _name(image: Image) -> str:
    """Without the folder: that belongs to the machine, not to the image."""
    return os.path.basename(image.name)  # noqa: PTH119 - a name as it was typed


class _GuestDisk:
    """What a walk over the extents of the active disk gives: maps, places, ciphertext."""

    def __init__(self, image: Qcow2Image, file_size: int, bytes_max: int) -> None:
        header = image.structure.header
        self.outside = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
        self.disk = cells_for(image.size, header.cluster_size)
        self.file = cells_for(file_size, header.cluster_size)
        self.extents: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self._image = image
        self._backed = image.structure.backing_file is not None
        self._bytes_max = align_down(bytes_max, SECTOR_SIZE)
        self._count = self._stored = self._taken = 0

    def walk(self, offset: int) -> None:
        """Look at all extents: those from the cluster at ``offset`` on, then those before it."""
        start = align_down(offset, self._image.structure.header.cluster_size)
        for extent in self._image.own_extents(start):
            self._add(extent)
        for extent in self._image.own_extents(0, start) if start else ():
            self._add(extent)

    def _add(self, extent: Extent) -> None:
        at, host, length = extent.guest_offset, extent.host_offset, extent.length
        is_below = self._backed and extent.kind is ExtentKind.UNALLOCATED
        kind = "backing" if is_below else extent.kind.value
        self.disk.add(kind, at, length)
        if host is not None and not self.outside:
            # A compressed cluster: the cell where it begins.
            linked = 1 if extent.kind is ExtentKind.COMPRESSED else length
            link(self.disk, self.file, at, host, linked)
        if self._count < EXTENTS_MAX:
            self.extents.append({"at": at, "size": length, "kind": kind, "host": host})
        self._count += 1
        if host is not None and extent.kind is ExtentKind.DATA:
            self._take(at, host, align_up(length, SECTOR_SIZE))

    def _take(self, at: int, host: int, length: int) -> None:
        self._stored += length
        length = min(length, self._bytes_max - self._taken)
        if not length:
            return
        data = self._image.data_file.pread(length, host).ljust(length, b"\0")
        self._taken += length
        encoded = base64.b64encode(data).decode("ascii")
        self.runs.append({"first": at // SECTOR_SIZE, "bytes": encoded})

    def left_out(self) -> Iterator[str]:
        """What the page does not have of it, in sentences."""
        if self._stored > self._taken:
            yield (
                f"This page holds {self._taken // 1024} KiB of ciphertext, the image "
                f"{self._stored // 1024} KiB. "
                "Another part: qcow2crypt explain --html FILE --offset N IMAGE."
            )
        if self._count > EXTENTS_MAX:
            yield f"It knows the places of {EXTENTS_MAX} of {self._count} ranges of the disk."


def _l2_tables(whole: FileMap) -> list[list[int]]:
    """For each L2 table of the active disk the first guest offset that it maps, and its place."""
    found = {
        claim.guest_offset: claim.host_offset
        for region in whole.regions
        for claim in region.claims
        if claim.kind is RegionKind.L2_TABLE
        and claim.snapshot is None
        and claim.guest_offset is not None
    }
    return [[guest, host] for guest, host in sorted(found.items())]


def _first_sector(runs: list[dict[str, Any]]) -> int:
    """The first that is stored, but rather not sector 0: its IV is all zeros, and shows nothing."""
    return max(int(runs[0]["first"]), 1) if runs else 0


def _left_out(whole: FileMap) -> Iterator[str]:
    if not whole.complete:
        yield "The map of the file is not complete: " + "; ".join(whole.problems)
