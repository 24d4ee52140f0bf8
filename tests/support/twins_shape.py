"""What a pair of images is, and a change of a guest range: words and numbers, no images."""

from __future__ import annotations

import random
from dataclasses import dataclass

SECTOR = 512
PASSPHRASE = "top secret, and long"
BASE_PASSPHRASE = "below"


@dataclass(frozen=True, slots=True)
class Shape:
    """What both images are.

    ``base``      format of the backing file: "raw", "qcow2", "aes", or None for no backing file
    ``by_us``     our own writer creates both images; else qemu-img
    ``data_file``, ``data_file_raw``  guest data lies in a file of its own, which is the raw disk
    ``packed``    indexes of the clusters that are compressed from the start
    """

    cluster_size: int
    size: int
    version: int = 3
    extended: bool = False
    encrypted: bool = False
    refcount_bits: int = 16
    lazy: bool = False
    base: str | None = None
    base_size: int = 0
    by_us: bool = False
    packed: tuple[int, ...] = ()
    data_file: bool = False
    data_file_raw: bool = False

    @property
    def unit(self) -> int:
        """The smallest part of the disk that has a mapping of its own, in bytes."""
        return self.cluster_size // 32 if self.extended else self.cluster_size

    def base_content(self, name: str) -> bytes:
        """The disk of one of the backing files ``base`` and ``other``; they are half equal."""
        noise = random.Random(self.base_size)
        content = bytearray(noise.randbytes(self.base_size))
        for at in range(0, self.base_size, 24576):
            content[at : at + 6000] = bytes(len(content[at : at + 6000]))
        if name == "other":
            for at in range(4096, self.base_size, 16384):
                content[at : at + 4096] = noise.randbytes(len(content[at : at + 4096]))
        return bytes(content)


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a guest range: ``write``, ``zero``, ``unmap`` or ``discard``."""

    verb: str
    offset: int
    length: int
    seed: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length

    def data(self) -> bytes:
        """What is written."""
        return random.Random(self.seed).randbytes(self.length)
