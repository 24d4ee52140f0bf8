"""The files that are measured on: a disk of random bytes, and images of it.

For each cluster size there is a plain image and an AES image, made by this package.  Everything
has a short name in one folder, so that no name needs an escape in an option of QEMU.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import qcow2crypt
from qcow2crypt.bench.cipher import PASSPHRASE
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.subjects import Encryption
from qcow2crypt.errors import BenchError
from qcow2crypt.units import SECTOR_SIZE

_STEP = 1 << 20


class Disks:
    """The files in ``folder``.  Made by ``make``; what is written to them later is not read."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.size = settings.disk_size
        self.sector = folder / "sector.raw"
        self.raw = folder / "disk.raw"
        self.out = folder / "out"
        self._settings = settings

    def make(self) -> None:
        """Write all files.  Raises what ``convert`` raises, and BenchError for a full disk."""
        try:
            self.sector.write_bytes(os.urandom(SECTOR_SIZE))
            with self.raw.open("wb") as file:
                for start in range(0, self.size, _STEP):
                    file.write(os.urandom(min(_STEP, self.size - start)))
        except OSError as error:
            raise BenchError(f"{self.folder}: {error.strerror}") from error
        for cluster_size in self._settings.cluster_sizes:
            for encryption in ENCRYPTIONS:
                self.convert(self.raw, self.image(cluster_size, encryption), encryption)

    def image(self, cluster_size: int, encryption: Encryption) -> Path:
        """The image that ``make`` made."""
        return self.folder / f"{encryption}-{cluster_size}.qcow2"

    def convert(self, source: Path, image: Path, encryption: Encryption) -> None:
        """Make one image with our defaults; its name tells the cluster size."""
        size = int(image.stem.rpartition("-")[2])
        qcow2crypt.convert(
            source,
            image,
            source_format="raw",
            target_format="qcow2",
            options=options(size, encryption),
            target_secret=secret(encryption),
            target_cache="unsafe",
        )

    def new_output(self) -> Path:
        """A name where nothing is."""
        self.out.unlink(missing_ok=True)
        return self.out

    def same(self, disk: Path, encryption: Encryption, disk_format: str) -> None:
        """Look whether a file holds the disk.  Raises BenchError where it does not."""
        with (
            qcow2crypt.open(self.raw, format="raw") as wanted,
            qcow2crypt.open(disk, secret(encryption), format=disk_format) as found,
        ):
            if not qcow2crypt.compare(wanted, found).identical:
                raise BenchError("what came out is another disk: not measured")

    def places(self, request: int, count: int) -> list[int]:
        """Random guest offsets, multiples of the size of a request; the same in every run."""
        draw = random.Random(request)  # noqa: S311 - not for secrets
        return [draw.randrange(self.size // request) * request for _ in range(count)]


ENCRYPTIONS: tuple[Encryption, ...] = ("none", "aes")


def options(cluster_size: int, encryption: Encryption) -> qcow2crypt.Qcow2Options:
    """The options of an image."""
    return qcow2crypt.Qcow2Options(
        cluster_size=cluster_size, encryption="aes" if encryption == "aes" else None
    )


def secret(encryption: Encryption) -> str | None:
    """The passphrase of an image, None for a plain one."""
    return PASSPHRASE if encryption == "aes" else None
