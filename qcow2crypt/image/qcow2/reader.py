"""Read the guest disk of a qcow2 image: plain or encrypted, every cluster kind.

Joins the parts: the map says where, the file gives bytes, the cipher makes them plain.
Legacy AES counts guest sectors, so the IV never depends on where a cluster lies in the file.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import CompressedDataError, UnsupportedFeatureError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress
from qcow2crypt.image.qcow2.entries import parse_compressed
from qcow2crypt.image.qcow2.header import CRYPT_AES
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down, align_up, guest_sector

if TYPE_CHECKING:
    from qcow2crypt.image.info import ImageInfo

_DECOMPRESSED_KEPT_BYTES = 4 << 20


class Qcow2Image(Image):
    """The active guest disk of a qcow2 image.

    Raises UnsupportedFeatureError naming what this package cannot read, HeaderError, and
    SecretRequiredError when the image is encrypted and ``secret`` is None.  A wrong passphrase
    for legacy AES cannot be noticed: the format holds nothing to check it against.
    """

    format = "qcow2"

    def __init__(self, file: HostFile, *, secret: Secret = None, engine: str | None = None) -> None:
        # What close() touches comes first: Python calls it for an image that is refused, too.
        self._file = file
        self._cipher: SectorCipher | None = None
        self._decompressed: OrderedDict[int, bytes] = OrderedDict()
        structure = read_structure(file)
        reasons = structure.why_unreadable()
        if reasons:
            raise UnsupportedFeatureError(
                "; ".join(reasons), f"in '{file.name}'; 'qcow2crypt info' describes the image"
            )
        super().__init__(structure.header.guest_size)
        self.name = file.name
        self._structure = structure
        if structure.header.crypt_method == CRYPT_AES:
            passphrase = passphrase_bytes(secret, needed_for=f"'{file.name}'")
            self._cipher = SectorCipher.from_passphrase(passphrase, engine=engine)
        self._map = ClusterMap(file, structure.header)
        self._decompressed_max = max(1, _DECOMPRESSED_KEPT_BYTES // structure.header.cluster_size)
        self._cache_lock = threading.Lock()

    @property
    def structure(self) -> Structure:
        """Header and extensions as they stand in the file."""
        return self._structure

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    @property
    def encrypted(self) -> bool:
        """True for crypt_method 1 (AES)."""
        return self._cipher is not None

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """See ``Image.extents``."""
        return self._map.extents(*self._clip(start, length))

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def info(self) -> ImageInfo:
        """See ``Image.info``."""
        from qcow2crypt.image.describe import describe_qcow2

        self._check_open()
        return describe_qcow2(self._file)

    def _read_into(self, view: memoryview, offset: GuestOffset) -> None:
        for extent in self._map.extents(offset, GuestOffset(offset + view.nbytes)):
            at = extent.guest_offset - offset
            part = view[at : at + extent.length]
            if extent.kind is ExtentKind.DATA:
                self._read_data(part, extent)
            elif extent.kind is ExtentKind.COMPRESSED:
                self._read_compressed(part, extent)
            else:
                part[:] = bytes(extent.length)

    def _read_data(self, part: memoryview, extent: Extent) -> None:
        start, host = extent.guest_offset, extent.host_offset
        assert host is not None  # noqa: S101 - a DATA extent always has one; this is for mypy
        cipher = self._cipher
        if cipher is None:
            self._file.pread_into(part, host)
            return
        end = start + extent.length
        first, last = align_up(start, SECTOR_SIZE), align_down(end, SECTOR_SIZE)
        if first < last:
            whole = part[first - start : last - start]
            self._file.pread_into(whole, host + (first - start))
            cipher.decrypt_into(whole, whole, guest_sector(GuestOffset(first)))
        # The ragged ends: a sector can only be decrypted as a whole.
        if start < first:
            stop = min(first, end)
            self._read_ragged(cipher, part[: stop - start], start, host)
        if last < end and last >= first:
            at = last - start
            self._read_ragged(cipher, part[at:], GuestOffset(last), host + at)

    def _read_ragged(
        self, cipher: SectorCipher, part: memoryview, start: GuestOffset, host: int
    ) -> None:
        """Read less than one sector by way of the whole sector."""
        skip = start % SECTOR_SIZE
        sector = bytearray(self._file.pread(SECTOR_SIZE, host - skip))
        cipher.decrypt_into(sector, sector, guest_sector(start))
        part[:] = sector[skip : skip + part.nbytes]

    def _read_compressed(self, part: memoryview, extent: Extent) -> None:
        cluster = align_down(extent.guest_offset, self._structure.header.cluster_size)
        plain = self._decompress_cluster(GuestOffset(cluster))
        skip = extent.guest_offset - cluster
        part[:] = plain[skip : skip + part.nbytes]

    def _decompress_cluster(self, cluster: GuestOffset) -> bytes:
        entry = self._map.compressed_entry(cluster)
        with self._cache_lock:
            plain = self._decompressed.get(entry)
        if plain is not None:
            return plain
        header = self._structure.header
        run = parse_compressed(entry, header.cluster_bits)
        length = max(0, min(run.length, self._file.size - run.host_offset))
        data = self._file.pread(length, run.host_offset)
        try:
            plain = decompress(data, header.cluster_size, header.compression_type)
        except DecompressError as error:
            raise CompressedDataError(
                "compressed cluster cannot be read",
                field="compressed data",
                offset=run.host_offset,
                found=str(error),
                allowed=f"data for exactly {header.cluster_size} bytes",
                guest_offset=cluster,
            ) from error
        with self._cache_lock:
            self._decompressed[entry] = plain
            while len(self._decompressed) > self._decompressed_max:
                self._decompressed.popitem(last=False)
        return plain

    def close(self) -> None:
        """Close the file, if it was opened by path, and forget the key."""
        if not self.closed:
            # The file first: a reader in another thread that finds no cipher must find no file,
            # or it would hand out ciphertext.
            self._file.close()
            self._cipher = None
            self._decompressed.clear()
        super().close()
