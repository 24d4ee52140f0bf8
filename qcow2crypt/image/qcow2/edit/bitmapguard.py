"""Dirty bitmaps of an image that is written: none may claim more than it knows.

A bitmap that is enabled is to record every write.  This package does not keep bitmaps up to date,
so before the first write it sets the flag *in use* of those: for QEMU they are then inconsistent,
can be listed and removed, and are never believed.  Their clusters stay counted.  A bitmap that is
disabled records nothing, so a write leaves it true; after a change of the disk's size it has the
wrong length, and is marked, too.

Source: the qcow2 document, "Bitmaps": the flags are at byte 12 of a directory entry.
"""

from __future__ import annotations

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmapentries import AUTO, FIXED, IN_USE
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.units import align_up

_FLAGS_AT = 12


def mark_bitmaps(file: HostFile, pointer: BitmapsPointer, *, disabled_too: bool) -> None:
    """Set *in use* where a write makes a bitmap wrong, and put that on the disk.

    Raises SourceError, TargetError.
    """
    offset = pointer.directory_offset
    end = min(file.size, offset + pointer.directory_size)
    changed = False
    for _ in range(pointer.count):
        if offset + FIXED.size > end:
            break
        fixed = FIXED.unpack(file.pread(FIXED.size, offset))
        _, _, flags, _, _, name_length, extra = fixed
        if not flags & IN_USE and (disabled_too or flags & AUTO):
            file.pwrite((flags | IN_USE).to_bytes(4, "big"), offset + _FLAGS_AT)
            changed = True
        offset += align_up(FIXED.size + extra + name_length, 8)
    if changed:
        file.flush()
