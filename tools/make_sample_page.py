"""Make the sample image of the documents and the page about it, the same bytes each time.

    python tools/make_sample_page.py          # docs/sector-iv.qcow2 and docs/sector-iv.html
    python tools/make_sample_page.py FOLDER   # the same into another folder

The passphrase is public, so the page has the key and works at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from source_tree import ROOT

import qcow2crypt
from qcow2crypt.explaining import page
from qcow2crypt.reference import passphrase_to_key, plain64

PASSPHRASE = "correct horse battery"
NAME = "sector-iv"
CLUSTER = 4096
Maker: TypeAlias = Callable[[int], bytes]
DISK = 16 * CLUSTER
SECTORS = CLUSTER // 512
BEGIN = 29
"""The sector that the page begins with."""


def labelled(sector: int) -> bytes:
    """Blocks that tell where they belong: one that turned to noise is seen."""
    return b"".join(b"sector %3d bl %02d" % (sector, block) for block in range(32))


def same(sector: int) -> bytes:
    """The same in every sector."""
    del sector
    return b"The same data in each sector.   ".ljust(64, b".") * 8


def marked(sector: int) -> bytes:
    """A watermark: the first block undoes the XOR with an IV that can be foretold."""
    mark = bytes(a ^ b for a, b in zip(b"This is a mark! ", plain64(sector), strict=True))
    return mark + labelled(sector)[16:]


# In the order of writing, so that clusters of the file stand in another order than on the disk.
CLUSTERS: tuple[tuple[int, Maker], ...] = (
    (3, labelled),
    (0, labelled),
    (9, same),
    (5, marked),
    (1, labelled),
)
ZEROS = 7


def disk() -> bytes:
    """The guest disk."""
    content = bytearray(DISK)
    for cluster, data in _clusters():
        content[cluster * CLUSTER : (cluster + 1) * CLUSTER] = data
    return bytes(content)


def _clusters() -> Iterator[tuple[int, bytes]]:
    for cluster, make in CLUSTERS:
        first = cluster * SECTORS
        yield cluster, b"".join(make(first + sector) for sector in range(SECTORS))


def make(folder: Path) -> None:
    """Write both files."""
    image = folder / f"{NAME}.qcow2"
    options = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=CLUSTER)
    qcow2crypt.create(image, DISK, secret=PASSPHRASE, options=options)
    with qcow2crypt.open(image, secret=PASSPHRASE, mode="r+") as opened:
        for cluster, data in _clusters():
            opened.pwrite(data, cluster * CLUSTER)
        opened.write_zeroes(ZEROS * CLUSTER, CLUSTER)
    with qcow2crypt.open(image, secret=PASSPHRASE) as opened:
        key = passphrase_to_key(PASSPHRASE)
        page.write(opened, folder / f"{NAME}.html", offset=BEGIN * 512, key=key)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
