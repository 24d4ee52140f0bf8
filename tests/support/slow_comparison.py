"""Compare two disks in the plainest way: whole and byte by byte, then one extent after the other.

The slow twin of ``tasks.comparison``.  Only for small disks without damage.
"""

from __future__ import annotations

from qcow2crypt.image.base import Image
from qcow2crypt.tasks.comparison import Comparison, _shared_extents, _status
from qcow2crypt.units import GuestOffset


def slow_compare(first: Image, second: Image, *, strict: bool = False) -> Comparison:
    """What ``compare`` finds."""
    sizes = (first.size, second.size)
    if strict and sizes[0] != sizes[1]:
        return Comparison(sizes, strict=True)
    one, other = (image.pread(max(sizes), 0).ljust(max(sizes), b"\0") for image in (first, second))
    differing = next((at for at in range(max(sizes)) if one[at] != other[at]), None)
    stored = None
    if strict:
        for offset, _, (left, right) in _shared_extents(first, second, min(sizes)):
            if _status(first, left, offset) != _status(second, right, offset):
                stored = offset
                break
    if stored is not None and (differing is None or stored <= differing):
        return Comparison(sizes, allocation_difference=stored, strict=True)
    found = None if differing is None else GuestOffset(differing)
    return Comparison(sizes, found, strict=strict)
