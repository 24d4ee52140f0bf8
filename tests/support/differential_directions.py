"""The three directions of a conversion: they write, we write, both write.

Joins the steps of a ``Case``; knows no sources and no content.
"""

from __future__ import annotations

from support.differential import Case, Target
from support.differential_maps import zero_ranges

from qcow2crypt.testing.witness import Disk

_FIRST_BLOCK = 4096


def three_directions(
    case: Case, source: Disk, guest: bytes, target: Target, *more: str
) -> tuple[Disk, Disk]:
    """Convert ``source``, whose guest disk is ``guest``, by both; hold all against all.

    Gives qemu-img's image and ours.
    """
    theirs, ours = case.convert(source, target, *more)
    case.same_guest(case.guest_by_us(theirs), guest, "qemu-img wrote, we read", theirs.path)
    case.same_guest(case.guest_by_them(ours), guest, "we wrote, qemu-img read", ours.path)
    if target.driver == "qcow2":
        case.nothing_to_find(ours)
    case.same_files(theirs.path, ours.path)
    if target.driver == "raw":
        # The first block of a raw file is always stored by QEMU, which probes it later.
        maps = [zero_ranges(case.same_map(disk), _FIRST_BLOCK) for disk in (theirs, ours)]
        if maps[0] != maps[1]:
            case.fail(f"the holes differ: {maps[0]} in qemu-img's file, {maps[1]} in ours")
    return theirs, ours
