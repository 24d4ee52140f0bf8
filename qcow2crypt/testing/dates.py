"""The dates of snapshots: QEMU writes the present one, and no image could be made again.

For sound files.  Follows the qcow2 document, "Snapshots".
"""

from __future__ import annotations

import struct

from qcow2crypt.testing.textbook import be

DATE = 1_700_000_000
"""The one that stays, in seconds since 1970."""
_MAGIC = b"QFI\xfb"


def with_one_date(data: bytes) -> bytes:
    """The bytes of an image with the dates of all its snapshots set to the same one."""
    if data[:4] != _MAGIC or be(data, 4, 4) < 2:
        return data
    changed = bytearray(data)
    count, offset = be(data, 60, 4), be(data, 64)
    for _ in range(count):
        struct.pack_into(">II", changed, offset + 16, DATE, 0)
        length = 40 + be(data, offset + 36, 4)
        length += be(data, offset + 12, 2) + be(data, offset + 14, 2)
        offset += -(-length // 8) * 8
    return bytes(changed)
