"""The vocabulary of the house: units, sizes and the types that keep them apart.

Knows nothing but numbers.  A word that is not in this glossary names nothing in the code:

guest offset   byte position on the virtual disk, as the guest sees it
host offset    byte position in the image file
sector         512 bytes, always; the unit that is encrypted on its own
block          16 bytes, the unit of AES
cluster        the unit of allocation in a qcow2 file, 512 bytes to 2 MiB
extent         consecutive guest bytes that are stored in one way
run            consecutive sectors
L1/L2 table    the two-level map from guest clusters to host offsets
refcount       how many times a host cluster is used
engine         a way to do AES on a run of sectors (Python side)
kernel         a C function set for one instruction set
IV generator   the rule that turns a sector number into an IV (plain, plain64, essiv)

Legacy AES counts guest sectors, LUKS inside qcow2 counts host sectors.  To take one for the
other is the mistake that matters here, so offsets and sector numbers are types of their own
and mypy refuses to mix them.
"""

from __future__ import annotations

from typing import NewType, TypeAlias

GuestOffset = NewType("GuestOffset", int)
HostOffset = NewType("HostOffset", int)
SectorNumber = NewType("SectorNumber", int)

SECTOR_SIZE = 512
BLOCK_SIZE = 16
SECTOR_NUMBER_MAX = 2**64 - 1

ReadBuffer: TypeAlias = bytes | bytearray | memoryview
WriteBuffer: TypeAlias = bytearray | memoryview


def align_down(value: int, unit: int) -> int:
    """The largest multiple of ``unit`` that is not above ``value``."""
    return value - value % unit


def align_up(value: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is not below ``value``."""
    return -(-value // unit) * unit


def div_up(value: int, unit: int) -> int:
    """How many pieces of ``unit`` are needed to hold ``value``."""
    return -(-value // unit)


def guest_sector(offset: GuestOffset) -> SectorNumber:
    """The number of the guest sector that holds the byte at ``offset``."""
    return SectorNumber(offset // SECTOR_SIZE)


def host_sector(offset: HostOffset) -> SectorNumber:
    """The number of the host sector that holds the byte at ``offset``."""
    return SectorNumber(offset // SECTOR_SIZE)
