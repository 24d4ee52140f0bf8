"""The guest disk at the time of an internal snapshot, as an image of its own, read-only.

A snapshot has an L1 table and a size; files, key, backing file and the IV rule (guest offsets) are
those of the image.  Source: the qcow2 document, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, extents_of
from qcow2crypt.image.info import ImageInfo, Snapshot
from qcow2crypt.image.layers import Ranges
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.snapshots import check_l1
from qcow2crypt.image.qcow2.tables import read_l1
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down

if TYPE_CHECKING:
    from qcow2crypt.image.hostfile import HostFile
    from qcow2crypt.image.qcow2.reader import Qcow2Image


class Qcow2Snapshot(Image):
    """One internal snapshot of ``image``, which it reads through and does not close.

    ``owned``, if it is set, is closed with this one: the image that was opened only for this.
    Its size is that of the disk when the snapshot was taken (qemu-img shows it in the present
    size).  Raises HeaderError for an L1 table that QEMU refuses.
    """

    format = "qcow2"

    def __init__(self, image: Qcow2Image, snapshot: Snapshot) -> None:
        header = image.structure.header
        check_l1(image.host_file, header, snapshot)
        super().__init__(align_down(snapshot.disk_size, SECTOR_SIZE))
        self.name = image.name
        self.backing = image.backing
        self.description = snapshot
        self._image = image
        self.owned: Image | None = None
        file, offset = image.host_file, snapshot.l1_table_offset
        l1 = read_l1(file, offset, snapshot.l1_size)
        self._map = ClusterMap(file, header, l1, image.tables, l1_offset=offset)

    @property
    def image(self) -> Qcow2Image:
        """What it is a snapshot of."""
        return self._image

    @property
    def encrypted(self) -> bool:
        """True where the image is."""
        return self._image.encrypted

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        """See ``Image.own_extents``."""
        return extents_of(self._map, *self._clip(start, length))

    def host_files(self) -> tuple[HostFile, ...]:
        """See ``Image.host_files``."""
        return self._image.host_files()

    def identity(self) -> tuple[int, int] | None:
        """See ``Image.identity``."""
        return self._image.identity()

    def info(self) -> ImageInfo:
        """Describe the image, with the size of the snapshot."""
        self._check_open()
        return self._image.info()._replace(virtual_size=self.size)

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        return self._image.read_mapped(self._map, view, offset)

    def close(self) -> None:
        """Close the view, and the image if nobody else has it."""
        owned = getattr(self, "owned", None)  # Python closes one that was refused, too
        if owned is not None:
            owned.close()
        self._close_own()

    def _check_open(self) -> None:
        super()._check_open()
        if self._image.closed:
            raise ArgumentError("the image that this snapshot is in is closed")
