"""AES sectors that QEMU spoiled, put right while they are read.

Raw zeros: where QEMU preallocates an encrypted image it writes no data, and the zeros of the file
decrypt to garbage.  Wrong IVs: see ``wrong_iv``.  Knows sectors and where they lie; no tables.
"""

from __future__ import annotations

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.wrong_iv import correct
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, HostOffset, guest_sector, host_sector

_ZERO_SECTOR = bytes(SECTOR_SIZE)


class SpoiledSectorFile(SectorFile):
    """As ``SectorFile``, but what QEMU spoiled reads as it was meant.

    ``raw_zeros``  a sector that is all zeros in the file reads as zeros
    ``wrong_iv``   sectors with the mark of a wrong IV are put right
    """

    def __init__(
        self, file: HostFile, cipher: SectorCipher, *, raw_zeros: bool, wrong_iv: bool
    ) -> None:
        super().__init__(file, cipher)
        self._raw_zeros = raw_zeros
        self._by_place = self._wrong_iv = wrong_iv

    def _decrypt(self, view: memoryview, start: int, host: int) -> None:
        zeros = _zero_sectors(view) if self._raw_zeros else ()
        super()._decrypt(view, start, host)
        if self._wrong_iv:
            correct(view, guest_sector(GuestOffset(start)), host_sector(HostOffset(host)))
        for at in zeros:
            view[at : at + SECTOR_SIZE] = _ZERO_SECTOR


def _zero_sectors(view: memoryview) -> list[int]:
    """Where in ``view`` the sectors begin that are all zeros."""
    return [
        at
        for at in range(0, view.nbytes, SECTOR_SIZE)
        if view[at : at + SECTOR_SIZE] == _ZERO_SECTOR
    ]
