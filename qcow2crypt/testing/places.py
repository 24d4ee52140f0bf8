"""Where two disks differ first, in the words in which one looks for the fault."""

from __future__ import annotations

from qcow2crypt.reference.ivgen import plain64
from qcow2crypt.units import SECTOR_SIZE


def first_different_byte(left: bytes, right: bytes) -> int:
    """The position of the first different byte; the shorter length if one begins the other."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # the first half that differs, again and again
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def describe_difference(found: bytes, wanted: bytes) -> str | None:
    """One sentence about the first difference, with its sector and its IV; None where equal."""
    if found == wanted:
        return None
    at = first_different_byte(found, wanted)
    sector = at // SECTOR_SIZE
    here, there = (data[at : at + 16].hex() or "nothing" for data in (found, wanted))
    return (
        f"{len(found)} bytes, {len(wanted)} wanted; the first that differs is at guest offset "
        f"{at:#x}, in sector {sector}, whose IV is {plain64(sector).hex()}: "
        f"{here} and not {there}"
    )
