"""Read the guest disk of a qcow version 1 image: plain or AES, compressed clusters, backing file.

The key and the IVs are those of qcow2: guest sectors count.  Compressed clusters are deflated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow2crypt.image.base import Image
from qcow2crypt.image.clusterimage import ClusterImage, cipher_for
from qcow2crypt.image.decompressed import DecompressedClusters
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import CRYPT_AES
from qcow2crypt.image.qcow1.mapping import Qcow1Map
from qcow2crypt.image.qcow1.structure import Qcow1Structure, read_qcow1_structure
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.secret import Secret

if TYPE_CHECKING:
    from qcow2crypt.image.info import ImageInfo


class Qcow1Image(ClusterImage):
    """The guest disk of a qcow version 1 image, read-only.

    ``backing`` is the image under this one, opened; it is closed with this one.  Raises
    HeaderError, and SecretRequiredError when the image is encrypted and ``secret`` is None.  A
    wrong passphrase cannot be noticed: the format holds nothing to check it against.
    """

    format = "qcow"

    def __init__(
        self,
        file: HostFile,
        *,
        secret: Secret = None,
        engine: str | None = None,
        backing: Image | None = None,
    ) -> None:
        structure = read_qcow1_structure(file)
        header = structure.header
        self._structure = structure
        encrypted = header.crypt_method == CRYPT_AES
        super().__init__(
            header.guest_size,
            file,
            where=Qcow1Map(file, header),
            sectors=SectorFile(file, cipher_for(file, secret, engine) if encrypted else None),
            decompressed=DecompressedClusters(file, header.cluster_size, COMPRESSION_DEFLATE),
            backing=backing,
        )

    @property
    def structure(self) -> Qcow1Structure:
        """Header and backing file name as they stand in the file."""
        return self._structure

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_qcow1

        self._check_open()
        return describe_qcow1(self._file)
