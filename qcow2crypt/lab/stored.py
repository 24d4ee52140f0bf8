"""What the file holds of a guest disk: ciphertext, without a key.

Reads the tables, which are never encrypted, of legacy AES images and of LUKS images alike, for the
disk as it is and for snapshots.  Knows no keys and no plaintext: what is found out from here,
anybody finds out who has the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, TypeAlias

from qcow2crypt.errors import LabError
from qcow2crypt.image.extents import ExtentKind, extents_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.luks1 import HEADER_SIZE, Luks1Header, parse_luks1
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.snapshots import check_l1, read_snapshots
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.image.qcow2.tables import read_l1
from qcow2crypt.units import SECTOR_SIZE, align_up

Name: TypeAlias = "str | os.PathLike[str]"
_PIECE_SECTORS = 1 << 11


class StoredRun(NamedTuple):
    """Consecutive sectors of the disk that are consecutive in the file: offsets and bytes."""

    guest: int
    host: int
    length: int


class Stored:
    """The stored sectors of one encrypted qcow2 image.  A context manager.

    Raises SourceError, FormatError, and LabError for a file that is no encrypted qcow2 image or
    keeps its data in another file.
    """

    def __init__(self, image: Name) -> None:
        self.file = HostFile(image)
        try:
            self._open()
        except BaseException:
            self.file.close()
            raise

    def _open(self) -> None:
        name = self.file.name
        if (found := probe(self.file)) != "qcow2":
            raise LabError(f"'{name}' is of the format {found}; this looks at qcow2 images")
        structure = read_structure(self.file)
        self._header = header = structure.header
        self._crypto = structure.crypto
        if not header.crypt_method:
            raise LabError(f"'{name}' is not encrypted: everything in it can be read")
        if header.incompatible_features & INCOMPAT_DATA_FILE:
            raise LabError(
                f"'{name}' keeps its data in another file, and this looks at one; "
                "'qcow2crypt convert' makes one image of both"
            )
        self.size = header.guest_size

    def __enter__(self) -> Stored:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()

    @property
    def encryption(self) -> str:
        """``aes`` or ``luks``."""
        return ("", "aes", "luks")[self._header.crypt_method]

    def luks(self) -> Luks1Header:
        """The LUKS header.  Raises LabError where there is none."""
        if self._crypto is None:
            raise LabError(f"'{self.file.name}' has no LUKS header")
        place = self._crypto.offset
        return parse_luks1(self.file.pread(HEADER_SIZE, place), place)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The internal snapshots."""
        return tuple(read_snapshots(self.file, self._header))

    def runs(self, snapshot: Snapshot | None = None) -> Iterator[StoredRun]:
        """What is stored in the file, encrypted, in the order of the disk.

        Zero clusters and what was never written have no data; compressed clusters are not
        encrypted.  Raises HeaderError, MappingError, and LabError where the tables name more data
        than the file has: a hostile image could keep us busy for years.
        """
        room = align_up(self.file.size, self._header.cluster_size)
        end = self.size
        if snapshot is None:
            where = ClusterMap(self.file, self._header)
        else:
            check_l1(self.file, self._header, snapshot)
            l1 = read_l1(self.file, snapshot.l1_table_offset, snapshot.l1_size)
            where = ClusterMap(self.file, self._header, l1, l1_offset=snapshot.l1_table_offset)
            end = snapshot.disk_size // SECTOR_SIZE * SECTOR_SIZE
        for extent in extents_of(where, 0, end):
            if extent.kind is ExtentKind.DATA and extent.host_offset is not None:
                room -= extent.length
                if room < 0:
                    raise LabError(
                        f"the tables of '{self.file.name}' name more data than is in the file: it "
                        "is cut short or damaged; 'qcow2crypt check' tells more"
                    )
                yield StoredRun(extent.guest_offset, extent.host_offset, extent.length)

    def sectors(self, snapshot: Snapshot | None = None) -> Iterator[tuple[int, int, bytes]]:
        """For each stored sector: its number on the disk, host offset and ciphertext."""
        for guest, host, length in self.runs(snapshot):
            for start in range(0, length, _PIECE_SECTORS * SECTOR_SIZE):
                data = self.file.pread(
                    min(_PIECE_SECTORS * SECTOR_SIZE, length - start), host + start
                )
                for at in range(0, len(data), SECTOR_SIZE):
                    place = start + at
                    number = (guest + place) // SECTOR_SIZE
                    yield number, host + place, data[at : at + SECTOR_SIZE]

    def host_offset(self, sector: int, snapshot: Snapshot | None = None) -> int:
        """Where a guest sector lies.  Raises LabError where it is not stored."""
        wanted = sector * SECTOR_SIZE
        for guest, host, length in self.runs(snapshot):
            if guest <= wanted < guest + length:
                return host + wanted - guest
        raise LabError(f"sector {sector} is not stored in '{self.file.name}'")

    def ciphertext(self, first_sector: int, count: int, snapshot: Snapshot | None = None) -> bytes:
        """The ciphertext of a run of guest sectors.  Raises LabError if one is not stored."""
        end = first_sector + count
        found = [data for number, _, data in self.sectors(snapshot) if first_sector <= number < end]
        if len(found) != count:
            raise LabError(
                f"sectors {first_sector} to {end - 1} are not all stored in '{self.file.name}'"
            )
        return b"".join(found)
