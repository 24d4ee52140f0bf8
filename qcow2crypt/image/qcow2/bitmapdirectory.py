"""The directory of the dirty bitmaps of a file, read entry by entry.

The one reader of it: for a description, a check, a copy, and for bitmaps that are kept up to date.
Knows where entries lie; no bits, no keys.  Source: the qcow2 document, "Bitmaps".
"""

from __future__ import annotations

from collections.abc import Iterator

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmapentries import FIXED, KIND, BitmapEntry
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.snapshots import read_within
from qcow2crypt.units import align_up

_GRANULARITY_BITS_MAX = 63


def read_directory(file: HostFile, pointer: BitmapsPointer) -> Iterator[BitmapEntry]:
    """The entries in the order of the directory.  Raises HeaderError.

    Entries are read one by one and only inside the file.  Not all is checked that QEMU checks:
    that is ``BitmapEntry.fault``.
    """
    offset = pointer.directory_offset
    limit = min(file.size, offset + pointer.directory_size)
    for number in range(pointer.nb_bitmaps):
        what = f"bitmap {number}"
        fixed = FIXED.unpack(read_within(file, offset, FIXED.size, limit, what))
        table, entries, flags, kind, granularity_bits, name_length, extra = fixed
        if kind != KIND or granularity_bits > _GRANULARITY_BITS_MAX:
            raise HeaderError(
                "bitmap directory entry is not valid",
                field=f"bitmap {number}: type and granularity bits",
                offset=offset + 16,
                found=f"{kind} and {granularity_bits}",
                allowed="1 and 0 to 63",
            )
        tail = read_within(file, offset + FIXED.size, extra + name_length, limit, what)
        name = tail[extra:].split(b"\0", 1)[0]
        end = align_up(offset + FIXED.size + len(tail), 8)
        yield BitmapEntry(
            *(table, entries, flags, kind, granularity_bits, name, tail[:extra]), at=offset, end=end
        )
        offset = end
