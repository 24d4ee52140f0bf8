"""The second half of an extended L2 entry: 32 subclusters, each with two bits.  Pure layout.

Source: the qcow2 document, "Extended L2 Entries".  Bits 0 to 31 say that a subcluster is
allocated, bits 32 to 63 that it reads as zeros; with neither it is for the backing file to say,
even if the cluster has a host offset.
"""

from __future__ import annotations

from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.qcow2.header import SUBCLUSTERS

SUBCLUSTER_BITS = 5
ALL_ALLOCATED = 0x0000_0000_FFFF_FFFF
ALL_ZERO = 0xFFFF_FFFF_0000_0000


def is_valid(bitmap: int, *, has_host_cluster: bool) -> bool:
    """Whether QEMU takes this bitmap in an entry that is not compressed.

    It refuses the whole cluster where one subcluster has both bits, or where one is allocated
    and the entry has no host offset.
    """
    allocated = bitmap & ALL_ALLOCATED
    return not allocated or (has_host_cluster and not allocated & (bitmap >> SUBCLUSTERS))


def subcluster_run(bitmap: int, index: int) -> tuple[ExtentKind, int]:
    """How subcluster ``index`` is stored, and how many from there on are stored so.

    >>> subcluster_run(0x0000_0004_0000_0003, 0)
    (<ExtentKind.DATA: 'data'>, 2)
    >>> subcluster_run(0x0000_0004_0000_0003, 3)
    (<ExtentKind.UNALLOCATED: 'unallocated'>, 29)
    """
    allocated, zero = bitmap & ALL_ALLOCATED, bitmap >> SUBCLUSTERS
    if allocated >> index & 1:
        kind, alike = ExtentKind.DATA, allocated
    elif zero >> index & 1:
        kind, alike = ExtentKind.ZERO, zero & ~allocated
    else:
        kind, alike = ExtentKind.UNALLOCATED, ~(allocated | zero) & ALL_ALLOCATED
    others = ~(alike >> index)
    return kind, (others & -others).bit_length() - 1


def bit_range(first: int, last: int) -> int:
    """The bits of the subclusters ``first`` to ``last``.

    >>> hex(bit_range(1, 3))
    '0xe'
    """
    return (2 << last) - (1 << first)
