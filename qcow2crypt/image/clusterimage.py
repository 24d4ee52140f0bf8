"""A guest disk in clusters of a file: what qcow version 1 and qcow2 share.

Joins the parts: a map says where, a file gives bytes and makes them plain, compressed clusters are
inflated and kept.  Knows no tables and no headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.image.base import Image
from qcow2crypt.image.decompressed import DecompressedClusters
from qcow2crypt.image.extents import (
    Extent,
    ExtentKind,
    RunMap,
    Stretch,
    extents_of,
    stretches_of,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.layers import Ranges
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.units import GuestOffset

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher

_DATA, _ZERO, _UNALLOCATED = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED


class ClusterImage(Image):
    """The guest disk of ``size`` bytes that ``where`` maps.

    ``file``          with the tables and compressed clusters
    ``sectors``       the file with the guest's data, and the key
    ``decompressed``  the compressed clusters of ``file``
    ``backing``       the image that has what this layer lacks

    All are closed with it.  A format calls this last: of an image that is refused, the parts stay
    their owner's.
    """

    _complete = False

    def __init__(
        self,
        size: int,
        file: HostFile,
        *,
        where: RunMap,
        sectors: SectorFile,
        decompressed: DecompressedClusters,
        backing: Image | None,
    ) -> None:
        super().__init__(size)
        self.name = file.name
        self.backing = backing
        self._file = file
        self._map = where
        self._sectors = sectors
        self._decompressed = decompressed
        self._complete = True

    @property
    def host_file(self) -> HostFile:
        """The file under the image."""
        return self._file

    @property
    def encrypted(self) -> bool:
        """True for crypt_method 1 (AES)."""
        return self._sectors.encrypted

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """See ``Image.own_extents``.  Host offsets are offsets in the file with the data."""
        return extents_of(self._map, *self._clip(start, length))

    def stretches(self, start: int = 0) -> Iterator[Stretch]:
        """See ``Image.stretches``."""
        if self.backing is not None:
            return super().stretches(start)
        return stretches_of(self._map, *self._clip(start, None))

    def host_files(self) -> tuple[HostFile, ...]:
        """See ``Image.host_files``."""
        data = self._sectors.file
        return (self._file,) if data is self._file else (self._file, data)

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._file.identity()

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        return self.read_mapped(self._map, view, offset)

    def read_mapped(self, where: RunMap, view: memoryview, offset: int) -> Ranges:
        """Fill ``view`` as ``where`` says, the map of the active disk or of a snapshot.

        For the views of this image: the range must lie inside the disk of that map.  Gives the
        ranges that are not in this file.
        """
        end = offset + view.nbytes
        position = offset
        missing: list[tuple[int, int]] = []
        data: list[tuple[int, int]] = []  # where runs of data end, one behind the other; host
        data_from = position
        while position < end:
            for kind, host, stop in where.runs_at(position, end):
                if kind is _DATA:
                    assert host is not None  # noqa: S101 - it always has one; this is for mypy
                    data_from = data_from if data else position
                    data.append((stop, host))
                else:
                    if data:
                        part = view[data_from - offset : position - offset]
                        self._sectors.read_runs(part, data_from, data)
                        data = []
                    if kind is _UNALLOCATED:
                        missing.append((position, stop))
                    elif kind is _ZERO:
                        view[position - offset : stop - offset] = bytes(stop - position)
                    else:  # the only run; those behind it are read with it
                        part = view[position - offset :]
                        clusters = where.compressed_runs(position, end)
                        position += self._decompressed.read(part, position, clusters)
                        break
                position = stop
        if data:
            self._sectors.read_runs(view[data_from - offset :], data_from, data)
        return missing

    def _close_own(self) -> None:
        if self._complete:  # Python closes an image that was refused, too
            self._sectors.close()
            if self._file is not self._sectors.file:
                self._file.close()
            self._decompressed.clear()
        super()._close_own()


def cipher_for(file: HostFile, secret: Secret, engine: str | None) -> SectorCipher:
    """The cipher of legacy AES for the sectors of ``file``.  Raises SecretRequiredError."""
    passphrase = passphrase_bytes(secret, needed_for=f"'{file.name}'")
    from qcow2crypt.crypt.cipher import SectorCipher

    return SectorCipher.from_passphrase(passphrase, engine=engine)
