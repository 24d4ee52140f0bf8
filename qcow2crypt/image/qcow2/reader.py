"""Read the guest disk of a qcow2 image: plain or encrypted, every cluster kind, every layer.

Checks that the parts fit each other and joins them; ``image.clusterimage`` reads.  Legacy AES
counts guest sectors, so the IV never depends on where a cluster lies in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from qcow2crypt.errors import (
    ArgumentError,
    ExternalReferenceError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import Image
from qcow2crypt.image.clusterimage import ClusterImage, cipher_for
from qcow2crypt.image.decompressed import DecompressedClusters
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.header import CRYPT_AES, INCOMPAT_DATA_FILE, Header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.image.qcow2.tables import TableCache, read_l1
from qcow2crypt.image.qcow2.wrong_iv import QEMU_2_7_0
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.secret import Secret
from qcow2crypt.units import align_down

if TYPE_CHECKING:
    from qcow2crypt.image.info import ImageInfo, Snapshot

RawZeros: TypeAlias = Literal["decrypt", "zeros"]
WrongIv: TypeAlias = Literal["qemu-2.7.0"]


class Qcow2Image(ClusterImage):
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
    _map: ClusterMap

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
        _check_options(raw_zeros, wrong_iv)
        structure = self._accept(file, structure)
        reasons = structure.why_unreadable()
        if reasons:
            raise UnsupportedFeatureError(
                "; ".join(reasons), f"in '{file.name}'; 'qcow2crypt info' describes the image"
            )
        _check_references(file, structure, backing, data_file, without_backing=without_backing)
        header = structure.header
        data_file = data_file or file
        if header.crypt_method != CRYPT_AES:
            sectors = SectorFile(data_file, None)
        else:
            cipher = cipher_for(file, secret, engine)
            if raw_zeros == "decrypt" and wrong_iv is None:
                sectors = SectorFile(data_file, cipher)
            else:
                from qcow2crypt.image.qcow2.spoiled import SpoiledSectorFile

                sectors = SpoiledSectorFile(
                    data_file,
                    cipher,
                    raw_zeros=raw_zeros == "zeros",
                    wrong_iv=wrong_iv is not None,
                )
        self._structure = structure
        self._tables = TableCache(file, header.cluster_size)
        self._l1 = read_l1(file, header.l1_table_offset, header.l1_size)
        super().__init__(
            header.guest_size,
            file,
            where=ClusterMap(file, header, self._l1, self._tables),
            sectors=sectors,
            decompressed=DecompressedClusters(file, header.cluster_size, header.compression_type),
            backing=backing,
        )

    def _accept(self, file: HostFile, structure: Structure | None) -> Structure:
        """What stands in the header cluster of a file that this class can work on."""
        return structure or read_structure(file)

    @property
    def structure(self) -> Structure:
        """Header and extensions as they stand in the file."""
        return self._structure

    @property
    def data_file(self) -> HostFile:
        """The file with the guest's data: ``host_file``, or the external data file."""
        return self._sectors.file

    @property
    def tables(self) -> TableCache:
        """The L2 tables of the file, for maps of it."""
        return self._tables

    def request_ends(self) -> tuple[int, int]:
        """See ``Image.request_ends``: where an L2 table ends, and before a last part cluster."""
        header = self._structure.header
        return header.l2_coverage, align_down(self.size, header.cluster_size)

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
        from qcow2crypt.image.qcow2.snapshots import find_snapshot
        from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot

        return Qcow2Snapshot(self, find_snapshot(self.snapshots(), id_or_name, self.name))


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
