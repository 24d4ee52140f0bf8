"""Does a decrypted disk look like a disk?  A hint about a wrong passphrase, never a proof.

Legacy AES stores nothing to check a passphrase against: with a wrong one every read succeeds and
gives noise.  Real disks begin with something known, and hardly any of their data is noise.
Knows guest bytes only.  Signatures are those of the formats' own documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from qcow2crypt.image.base import ExtentKind, Image
from qcow2crypt.image.layers import layers_of
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

HEAD_LENGTH = 64 << 10
"""How many guest bytes are looked at, in bytes."""

# 512 random bytes hold 221.5 of the 256 values on average, with a standard deviation of 4.9.
_NOISE_VALUES_MIN = 180
_EXTENTS_MAX = 4096

_SIGNATURES: tuple[tuple[str, int, bytes], ...] = (
    ("a GUID partition table", 512, b"EFI PART"),
    ("a GUID partition table", 4096, b"EFI PART"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 54, b"FAT1"),
    ("a FAT file system", 82, b"FAT32"),
    ("an XFS file system", 0, b"XFSB"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an LVM volume", 0, b"LABELONE"),
    ("an LVM volume", 512, b"LABELONE"),
    ("an LVM volume", 1024, b"LABELONE"),
    ("a swap area", 4086, b"SWAPSPACE2"),
    ("an ISO 9660 file system", 32769, b"CD001"),
    ("a squashfs file system", 0, b"hsqs"),
    ("an APFS container", 32, b"NXSB"),
    ("a disk image inside the disk", 0, b"QFI\xfb"),
    # The short ones last: two bytes are there by chance once in 65536 times.
    ("a boot record", 510, b"\x55\xaa"),
    ("an ext file system", 0x438, b"\x53\xef"),
    ("an Apple partition map", 512, b"PM"),
    ("an HFS+ file system", 1024, b"H+\x00\x04"),
    ("a Sun disk label", 508, b"\xda\xbe"),
)


class Look(NamedTuple):
    """What was seen.  ``plausible`` is False only where decrypted data is nothing but noise."""

    plausible: bool
    seen: str


def look_at(image: Image) -> Look:
    """Look at the start of ``image`` and at its first stored data.

    Reads at most 128 KiB.  Raises what reading the image raises.
    """
    name = find_signature(image.pread(HEAD_LENGTH, 0))
    if name is not None:
        return Look(plausible=True, seen=name)
    sectors = list(islice(_stored_sectors(image), HEAD_LENGTH // SECTOR_SIZE))
    if not sectors:
        return Look(plausible=True, seen="no stored data")
    if all(is_noise(sector) for sector in sectors):
        return Look(plausible=False, seen="nothing but noise")
    return Look(plausible=True, seen="data that is not noise")


def find_signature(head: bytes) -> str | None:
    """What the first guest bytes begin with, in words, or None."""
    for name, offset, magic in _SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return name
    return None


def is_noise(sector: bytes) -> bool:
    """Whether 512 bytes could be random: they hold most of the 256 byte values."""
    return len(set(sector)) >= _NOISE_VALUES_MIN


def is_fill(sector: bytes) -> bool:
    """Whether 512 bytes are what decrypting zeros gives, with any key.

    QEMU's preallocation leaves zeros in the file, and CBC makes of them one block over and over.
    """
    block = sector[BLOCK_SIZE : 2 * BLOCK_SIZE]
    return len(set(block)) > 1 and sector[BLOCK_SIZE:] == block * (len(sector) // BLOCK_SIZE - 1)


def _stored_sectors(image: Image) -> Iterator[bytes]:
    """Sectors that tell something, in guest order.

    Zeros and compressed clusters were not decrypted, and what preallocation left is no data.
    """
    decrypted = list(_decrypted_layers(image))
    for extent in islice(image.extents(), _EXTENTS_MAX):
        if extent.kind is not ExtentKind.DATA or not decrypted[extent.depth]:
            continue
        data = image.pread(min(extent.length, HEAD_LENGTH), extent.guest_offset)
        for start in range(0, len(data) - SECTOR_SIZE + 1, SECTOR_SIZE):
            sector = data[start : start + SECTOR_SIZE]
            if not is_fill(sector):
                yield sector


def _decrypted_layers(image: Image) -> Iterator[bool]:
    """Of each layer, whether its data is decrypted: a plain base tells nothing of a passphrase."""
    for layer in layers_of(image):
        yield layer.encrypted
