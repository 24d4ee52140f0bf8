"""Read the guest disk of a qcow version 1 image: plain or AES, compressed clusters, backing file.

Joins the parts: the map says where, the file gives bytes, the cipher makes them plain.  The key
and the IVs are those of qcow2: guest sectors count.  Compressed clusters are stored in clear.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.errors import ArgumentError, CompressedDataError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import CRYPT_AES
from qcow2crypt.image.qcow1.mapping import Qcow1Map
from qcow2crypt.image.qcow1.structure import Qcow1Structure, read_qcow1_structure
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down, align_up, guest_sector

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher
    from qcow2crypt.image.info import ImageInfo

_DECOMPRESSED_KEPT_BYTES = 4 << 20


class Qcow1Image(Image):
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
        # What close() touches comes first: Python calls it for an image that is refused, too.
        self._file = file
        self._cipher: SectorCipher | None = None
        self._decompressed: OrderedDict[int, bytes] = OrderedDict()
        self.backing = backing
        structure = read_qcow1_structure(file)
        super().__init__(structure.header.guest_size)
        self.name = file.name
        self._structure = structure
        if structure.header.crypt_method == CRYPT_AES:
            passphrase = passphrase_bytes(secret, needed_for=f"'{file.name}'")
            from qcow2crypt.crypt.cipher import SectorCipher

            self._cipher = SectorCipher.from_passphrase(passphrase, engine=engine)
        self._map = Qcow1Map(file, structure.header)
        self._decompressed_max = _DECOMPRESSED_KEPT_BYTES // structure.header.cluster_size
        self._cache_lock = threading.Lock()

    @property
    def structure(self) -> Qcow1Structure:
        """Header and backing file name as they stand in the file."""
        return self._structure

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    @property
    def encrypted(self) -> bool:
        """True for crypt_method 1 (AES)."""
        return self._structure.header.crypt_method == CRYPT_AES

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """See ``Image.own_extents``."""
        return self._map.extents(*self._clip(start, length))

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_qcow1

        self._check_open()
        return describe_qcow1(self._file)

    def _read_into(self, view: memoryview, offset: GuestOffset) -> None:
        for extent in self._map.extents(offset, GuestOffset(offset + view.nbytes)):
            at = extent.guest_offset - offset
            part = view[at : at + extent.length]
            if extent.kind is ExtentKind.DATA:
                self._read_data(part, extent)
            elif extent.kind is ExtentKind.COMPRESSED:
                self._read_compressed(part, extent.guest_offset)
            else:
                self._read_backing(part, extent.guest_offset)

    def _read_data(self, part: memoryview, extent: Extent) -> None:
        start, host = extent.guest_offset, extent.host_offset
        assert host is not None  # noqa: S101 - a DATA extent always has one; this is for mypy
        if not self.encrypted:
            self._file.pread_into(part, host)
            return
        # A sector can only be decrypted as a whole.
        first = align_down(start, SECTOR_SIZE)
        length = align_up(start + extent.length, SECTOR_SIZE) - first
        whole = part if length == extent.length else memoryview(bytearray(length))
        self._file.pread_into(whole, host - (start - first))
        cipher = self._cipher
        if cipher is None:  # closed by another thread: never hand out ciphertext
            raise ArgumentError("the image is closed")
        cipher.decrypt_into(whole, whole, guest_sector(GuestOffset(first)))
        if whole is not part:
            part[:] = whole[start - first : start - first + extent.length]

    def _read_compressed(self, part: memoryview, position: GuestOffset) -> None:
        cluster = GuestOffset(align_down(position, self._structure.header.cluster_size))
        plain = self._decompress_cluster(cluster)
        skip = position - cluster
        part[:] = plain[skip : skip + part.nbytes]

    def _decompress_cluster(self, cluster: GuestOffset) -> bytes:
        with self._cache_lock:
            plain = self._decompressed.get(cluster)
        if plain is not None:
            return plain
        size = self._structure.header.cluster_size
        run = self._map.compressed_run(cluster)
        try:
            plain = decompress(
                self._file.pread(run.length, run.host_offset), size, COMPRESSION_DEFLATE
            )
        except DecompressError as error:
            raise CompressedDataError(
                "compressed cluster cannot be read",
                field="compressed data",
                offset=run.host_offset,
                found=str(error),
                allowed=f"data for exactly {size} bytes",
                guest_offset=cluster,
            ) from error
        with self._cache_lock:
            self._decompressed[cluster] = plain
            while len(self._decompressed) > self._decompressed_max:
                self._decompressed.popitem(last=False)
        return plain

    def close(self) -> None:
        """Close the files that were opened by path, and forget the key."""
        if not self.closed:
            # The file first: a read in another thread that finds no cipher must find no file.
            self._file.close()
            if self.backing is not None:
                self.backing.close()
            if self._cipher is not None:
                self._cipher.close()
            self._cipher = None
            self._decompressed.clear()
        super().close()
