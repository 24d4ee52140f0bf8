"""Read the guest disk of a qcow2 image: plain or encrypted, every cluster kind, every layer.

Joins the parts: the map says where, the file gives bytes, the cipher makes them plain, and what
this layer does not have comes from the backing image.  Legacy AES counts guest sectors, so the IV
never depends on where a cluster lies in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from qcow2crypt.errors import (
    ArgumentError,
    ExternalReferenceError,
    SnapshotNotFoundError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, ExtentKind
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.decompressed import DecompressedClusters
from qcow2crypt.image.qcow2.header import CRYPT_AES, INCOMPAT_DATA_FILE, Header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.image.qcow2.tables import TableCache, read_l1
from qcow2crypt.image.qcow2.wrong_iv import QEMU_2_7_0, correct
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.units import (
    SECTOR_SIZE,
    GuestOffset,
    HostOffset,
    align_down,
    align_up,
    guest_sector,
    host_sector,
)

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher
    from qcow2crypt.image.info import ImageInfo, Snapshot

RawZeros: TypeAlias = Literal["decrypt", "zeros"]
WrongIv: TypeAlias = Literal["qemu-2.7.0"]

_DATA, _ZERO, _UNALLOCATED = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED
_IN_SECTOR = SECTOR_SIZE - 1
_ZERO_SECTOR = bytes(SECTOR_SIZE)


class Qcow2Image(Image):
    """The active guest disk of a qcow2 image.

    ``backing``     the image behind ``structure.backing_file``, open; closed with this one
    ``data_file``   the external data file, open; closed with this one
    ``without_backing``  read what this layer lacks as zeros, though a backing file is named
    ``raw_zeros``   what an encrypted sector reads as that is all zeros in the file, as QEMU
                    leaves them when it preallocates.  ``decrypt``: the garbage that QEMU reads.
                    ``zeros``: zeros.  (Data that encrypts to 512 zero bytes: one in 2**4096.)
    ``wrong_iv``    ``qemu-2.7.0`` puts right the sectors that have the mark of that version's
                    mistake, see ``qcow2.wrong_iv``
    ``structure``   what ``read_structure`` gave for the file, if the caller has it

    Raises UnsupportedFeatureError naming what this package cannot read, HeaderError,
    ExternalReferenceError when a file that the image names is not given, and SecretRequiredError
    when it is encrypted and ``secret`` is None.  A wrong passphrase for legacy AES cannot be
    noticed: the format holds nothing to check it against.
    """

    format = "qcow2"

    def __init__(
        self,
        file: HostFile,
        *,
        secret: Secret = None,
        engine: str | None = None,
        backing: Image | None = None,
        data_file: HostFile | None = None,
        without_backing: bool = False,
        raw_zeros: RawZeros = "decrypt",
        wrong_iv: WrongIv | None = None,
        structure: Structure | None = None,
    ) -> None:
        # What close() touches comes first: Python calls it for an image that is refused, too.
        self._file = file
        self._data_file = file
        self._cipher: SectorCipher | None = None
        self._decompressed: DecompressedClusters | None = None
        _check_options(raw_zeros, wrong_iv)
        structure = structure or read_structure(file)
        reasons = structure.why_unreadable()
        if reasons:
            raise UnsupportedFeatureError(
                "; ".join(reasons), f"in '{file.name}'; 'qcow2crypt info' describes the image"
            )
        header = structure.header
        _check_references(file, structure, backing, data_file, without_backing=without_backing)
        super().__init__(header.guest_size)
        self.name = file.name
        self._structure = structure
        self._encrypted = header.crypt_method == CRYPT_AES
        if self._encrypted:
            passphrase = passphrase_bytes(secret, needed_for=f"'{file.name}'")
            from qcow2crypt.crypt.cipher import SectorCipher

            self._cipher = SectorCipher.from_passphrase(passphrase, engine=engine)
        self._raw_zeros = raw_zeros == "zeros"
        self._wrong_iv = wrong_iv is not None
        self._tables = TableCache(file, header.cluster_size)
        self._l1 = read_l1(file, header.l1_table_offset, header.l1_size)
        self._map = ClusterMap(file, header, self._l1, self._tables)
        self._decompressed = DecompressedClusters(file, header)
        # Taken over last: of an image that is refused they stay their owner's.
        self.backing = backing
        if data_file is not None:
            self._data_file = data_file

    @property
    def structure(self) -> Structure:
        """Header and extensions as they stand in the file."""
        return self._structure

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    @property
    def data_file(self) -> HostFile:
        """The file with the guest's data: ``host_file``, or the external data file."""
        return self._data_file

    @property
    def tables(self) -> TableCache:
        """The L2 tables of the file, for maps of it."""
        return self._tables

    @property
    def encrypted(self) -> bool:
        """True for crypt_method 1 (AES)."""
        return self._encrypted

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """See ``Image.own_extents``.  Host offsets are offsets in ``data_file``."""
        return self._map.extents(*self._clip(start, length))

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_qcow2

        self._check_open()
        return describe_qcow2(self._file)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """See ``Image.snapshots``."""
        self._check_open()
        from qcow2crypt.image.qcow2.snapshots import read_snapshots

        return tuple(read_snapshots(self._file, self._structure.header))

    def snapshot(self, id_or_name: str) -> Image:
        """See ``Image.snapshot``."""
        from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot

        found = self.snapshots()
        for wanted in ("id", "name"):  # as qemu-img: any id before any name
            for one in found:
                if getattr(one, wanted) == id_or_name:
                    return Qcow2Snapshot(self, one)
        names = ", ".join(f"{one.id} '{one.name}'" for one in found) or "none"
        raise SnapshotNotFoundError(
            f"'{self.name}' has no internal snapshot '{id_or_name}'; it has: {names}"
        )

    # Reading.

    def _read_into(self, view: memoryview, offset: GuestOffset) -> None:
        self.read_mapped(self._map, view, offset)

    def read_mapped(self, where: ClusterMap, view: memoryview, offset: int) -> None:
        """Fill ``view`` as ``where`` says, the map of the active disk or of a snapshot.

        For the views of this image: the range must lie inside the disk of that map.
        """
        end = offset + view.nbytes
        position = offset
        data: list[tuple[int, int]] = []  # where runs of data end, one behind the other; host
        data_from = position
        while position < end:
            kind, host, stop = where.run_at(position, end)
            if kind is _DATA:
                assert host is not None  # noqa: S101 - it always has one; this is for mypy
                data_from = data_from if data else position
                data.append((stop, host))
            else:
                if data:
                    self._read_runs(view[data_from - offset : position - offset], data_from, data)
                    data = []
                part = view[position - offset : stop - offset]
                if kind is _UNALLOCATED:
                    self._read_backing(part, GuestOffset(position))
                elif kind is _ZERO:
                    part[:] = bytes(stop - position)
                else:
                    self._read_compressed(where, part, GuestOffset(position))
            position = stop
        if data:
            self._read_runs(view[data_from - offset :], data_from, data)

    def _read_runs(self, view: memoryview, start: int, runs: list[tuple[int, int]]) -> None:
        """Read data that the guest has in one piece, from the places where it lies."""
        whole = not (start | start + view.nbytes) & _IN_SECTOR
        parts: list[tuple[memoryview, int]] = []
        position = start
        for stop, host in runs:
            parts.append((view[position - start : stop - start], host))
            position = stop
        if len(runs) == 1 or self._wrong_iv or not (whole or self._cipher is None):
            position = start
            for part, host in parts:
                self._read_data(part, position, host)
                position += part.nbytes
            return
        self._data_file.pread_parts(parts)
        if self._encrypted:
            self._decrypt(view, start)

    def _read_data(self, part: memoryview, start: int, host: int) -> None:
        if not self._encrypted:
            self._data_file.pread_into(part, host)
            return
        end = start + part.nbytes
        if not (start | end) & _IN_SECTOR:
            self._read_sectors(part, start, host)
            return
        first, last = align_up(start, SECTOR_SIZE), align_down(end, SECTOR_SIZE)
        if first < last:
            at = first - start
            self._read_sectors(part[at : last - start], first, host + at)
        # The ragged ends: a sector can only be decrypted as a whole.
        if start < first:
            stop = min(first, end)
            self._read_ragged(part[: stop - start], start, host)
        if last < end and last >= first:
            at = last - start
            self._read_ragged(part[at:], last, host + at)

    def _read_ragged(self, part: memoryview, start: int, host: int) -> None:
        """Read less than one sector by way of the whole sector."""
        skip = start % SECTOR_SIZE
        sector = memoryview(bytearray(SECTOR_SIZE))
        self._read_sectors(sector, start - skip, host - skip)
        part[:] = sector[skip : skip + part.nbytes]

    def _read_sectors(self, part: memoryview, start: int, host: int) -> None:
        """Read and decrypt whole sectors."""
        self._data_file.pread_into(part, host)
        self._decrypt(part, start, host)

    def _decrypt(self, part: memoryview, start: int, host: int = 0) -> None:
        """Decrypt whole sectors; ``host`` is of use only where IVs may be wrong."""
        cipher = self._cipher
        if cipher is None:  # closed by another thread: never hand out ciphertext
            raise ArgumentError("the image is closed")
        zeros = _zero_sectors(part) if self._raw_zeros else ()
        sector = guest_sector(GuestOffset(start))
        cipher.decrypt_into(part, part, sector)
        if self._wrong_iv:
            correct(part, sector, host_sector(HostOffset(host)))
        for at in zeros:
            part[at : at + SECTOR_SIZE] = _ZERO_SECTOR

    def _read_compressed(self, where: ClusterMap, part: memoryview, start: GuestOffset) -> None:
        clusters = self._decompressed
        if clusters is None:
            raise ArgumentError("the image is closed")
        skip = start % self._structure.header.cluster_size
        plain = clusters.cluster(where.compressed_entry(start), start - skip)
        part[:] = plain[skip : skip + part.nbytes]

    def close(self) -> None:
        """Close the files that were opened by path and the backing image; forget the key."""
        if not self.closed:
            # The files first: a read in another thread that finds no cipher must find no file.
            self._file.close()
            if self._data_file is not self._file:
                self._data_file.close()
            if self.backing is not None:
                self.backing.close()
            if self._cipher is not None:
                self._cipher.close()
            self._cipher = self._decompressed = None
        super().close()


def _check_options(raw_zeros: str, wrong_iv: str | None) -> None:
    if raw_zeros not in ("decrypt", "zeros"):
        raise ArgumentError(f"raw_zeros is 'decrypt' or 'zeros', not {raw_zeros!r}")
    if wrong_iv not in (None, QEMU_2_7_0):
        raise ArgumentError(f"wrong_iv is None or {QEMU_2_7_0!r}, not {wrong_iv!r}")


def _check_references(
    file: HostFile,
    structure: Structure,
    backing: Image | None,
    data_file: HostFile | None,
    *,
    without_backing: bool,
) -> None:
    """Whether every file that the image names was given, and no other."""
    name = structure.backing_file
    if name is not None and backing is None and not without_backing:
        raise ExternalReferenceError(file.name, name, "no backing image was given for it")
    if backing is not None and without_backing:
        raise ArgumentError("a backing image and without_backing exclude each other")
    external = _has_data_file(structure.header)
    if external and data_file is None:
        name = structure.data_file or "an external data file without a name"
        raise ExternalReferenceError(file.name, name, "no external data file was given")
    if data_file is not None and not external:
        raise ArgumentError(f"'{file.name}' has no external data file, but one was given")


def _has_data_file(header: Header) -> bool:
    return bool(header.incompatible_features & INCOMPAT_DATA_FILE)


def _zero_sectors(part: memoryview) -> list[int]:
    """Where in ``part`` the sectors begin that are all zeros."""
    return [
        at
        for at in range(0, part.nbytes, SECTOR_SIZE)
        if part[at : at + SECTOR_SIZE] == _ZERO_SECTOR
    ]
