"""Where a demonstration works: a folder, and QEMU beside it if it is installed.

Makes images through this package, and the same disks as LUKS images by qemu-img.  Knows nothing of
what the disks hold or what is shown with them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import qcow2crypt
from qcow2crypt.errors import LabError
from qcow2crypt.lab.modes import PASSPHRASE
from qcow2crypt.lab.qemu import Qemu
from qcow2crypt.lab.stored import Stored
from qcow2crypt.units import SECTOR_SIZE

AES = qcow2crypt.Qcow2Options(encryption="aes")
LUKS_SIZE = 2 << 20
NO_QEMU = "what needs qemu-img: nothing was asked of QEMU, and no LUKS image was made"


class Desk:
    """``folder`` exists and is ours to fill; ``qemu`` None leaves out what needs QEMU.

    To make a LUKS image takes seconds, so an empty one is kept for each mode.
    """

    def __init__(self, folder: Path, qemu: Qemu | None) -> None:
        self.folder = folder
        self.qemu = qemu
        self._empty: dict[str, bytes] = {}

    def raw(self, name: str, disk: bytes) -> Path:
        """The disk as a raw file, ``NAME.raw``."""
        path = self.folder / f"{name}.raw"
        path.write_bytes(disk)
        return path

    def aes(self, name: str, disk: bytes, passphrase: str = PASSPHRASE) -> Path:
        """The disk as a legacy AES image, ``NAME.qcow2``, made by this package."""
        raw, path = self.raw(name, disk), self.folder / f"{name}.qcow2"
        qcow2crypt.convert(
            raw,
            path,
            source_format="raw",
            target_format="qcow2",
            options=AES,
            target_secret=passphrase,
        )
        raw.unlink()
        return path

    def luks(self, name: str, disk: bytes, mode: str = "xts", *, fresh: bool = False) -> Path:
        """An image of LUKS_SIZE with the disk at its begin, ``NAME.qcow2``, made by qemu-img.

        ``fresh`` makes keys of its own; else images of one mode have the same master key.  Raises
        LabError.
        """
        path = self.folder / f"{name}.qcow2"
        if fresh or mode not in self._empty:
            self.asked().create_luks(path, LUKS_SIZE, PASSPHRASE, mode)
            self._empty.setdefault(mode, path.read_bytes())
        else:
            path.write_bytes(self._empty[mode])
        self.write(path, disk)
        return path

    def write(self, image: Path, disk: bytes) -> None:
        """Let qemu-img write a whole disk into an image, from its begin on.  Raises LabError."""
        raw = self.raw(image.stem, disk)
        self.asked().write(raw, image)
        raw.unlink()

    def asked(self) -> Qemu:
        """QEMU.  Raises LabError where it is not there."""
        if self.qemu is None:
            raise LabError(NO_QEMU)
        return self.qemu

    def copy(self, image: Path, name: str) -> Path:
        """A copy of an image, ``NAME.qcow2``."""
        path = self.folder / f"{name}.qcow2"
        shutil.copyfile(image, path)
        return path


def read(image: Path, first_sector: int, count: int, passphrase: str = PASSPHRASE) -> bytes:
    """Guest sectors of a legacy AES image, as this package reads them."""
    with qcow2crypt.open(image, secret=passphrase) as disk:
        return bytes(disk.pread(count * SECTOR_SIZE, first_sector * SECTOR_SIZE))


def ciphertext(image: Path, first_sector: int, count: int) -> bytes:
    """The ciphertext of guest sectors."""
    with Stored(image) as stored:
        return stored.ciphertext(first_sector, count)


def overwrite(image: Path, sector: int, data: bytes) -> None:
    """Put other ciphertext where a guest sector lies: what somebody without the key can do."""
    with Stored(image) as stored:
        place = stored.host_offset(sector)
    with image.open("r+b") as file:
        file.seek(place)
        file.write(data)


def part(disk: bytes, first_sector: int, count: int) -> bytes:
    """Sectors of a whole disk."""
    return disk[first_sector * SECTOR_SIZE : (first_sector + count) * SECTOR_SIZE]
