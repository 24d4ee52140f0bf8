"""One entry of the bitmap directory, one of a bitmap table, and what makes QEMU refuse them.

Pure layout, no I/O.  Source: the qcow2 document, "Bitmaps"; limits as QEMU has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.units import align_up, div_up

FIXED = struct.Struct(">QIIBBHI")
"""The fixed part: extra data, the name, and zeros up to a multiple of 8 follow."""
KIND = 1
"""The only type of bitmap that there is: dirty tracking."""
IN_USE, AUTO = 1, 2
NAME_MAX = 1023
COUNT_MAX = 65535
DIRECTORY_MAX = 1024 * COUNT_MAX
FLAGS_OFFSET = 12
"""Of the flags in an entry; they have 4 bytes."""
TABLE_ENTRIES_OFFSET = 8
"""Of the number of entries of the table; 4 bytes, too.  The host offset stands before it."""
ALL_ONES = 1
"""The table entry of a cluster that has no place, and all bits set."""
_FLAGS_KNOWN = 0x7
_TABLE_RESERVED = 0xFF00_0000_0000_01FE
_TABLE_BYTES_MAX = 0x800_0000
_BYTES_MAX = 0x2000_0000
_OFFSET_MAX = 1 << 63
_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class BitmapEntry:
    """What the directory says of one bitmap.  The name is bytes without NUL.

    ``at`` and ``end`` say where the entry was read: its host offset, and that of the next one.
    """

    table_offset: int
    table_entries: int
    flags: int
    kind: int
    granularity_bits: int
    name: bytes
    extra: bytes = b""
    at: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def in_use(self) -> bool:
        """It was not saved: its bits are not to be believed."""
        return bool(self.flags & IN_USE)

    @property
    def auto(self) -> bool:
        """It is enabled: it is to record writes."""
        return bool(self.flags & AUTO)

    @property
    def granularity(self) -> int:
        """Guest bytes for one bit."""
        return 1 << self.granularity_bits

    @property
    def shown(self) -> str:
        """The name as text."""
        return self.name.decode("utf-8", "backslashreplace")

    def pack(self) -> bytes:
        """The entry as it stands in a directory, with the zeros behind it."""
        fixed = FIXED.pack(
            self.table_offset,
            self.table_entries,
            self.flags,
            self.kind,
            self.granularity_bits,
            len(self.name),
            len(self.extra),
        )
        packed = fixed + self.extra + self.name
        return packed.ljust(align_up(len(packed), 8), b"\0")

    def fault(self, guest_size: int, cluster_size: int) -> str:
        """Why an image with a disk of this size cannot have this bitmap; empty if it can."""
        return (
            (self.kind != KIND and "its type is not 1")
            or (not self.name and "it has no name")
            or (len(self.name) > NAME_MAX and "its name is too long")
            or (self.extra and "it has extra data")
            or (self.flags & ~_FLAGS_KNOWN and "it has unknown flags")
            or (not 9 <= self.granularity_bits <= 31 and "its granularity is not 512 to 2 GiB")
            or (self.table_entries > _TABLE_BYTES_MAX // ENTRY_SIZE and "its table is too large")
            or self._ill_sized(guest_size, cluster_size)
            or (
                (not self.table_offset or self.table_offset % cluster_size)
                and "its table is not cluster aligned"
            )
            or (self.table_offset >= _OFFSET_MAX and "its table is outside any file")
            or ""
        )

    def _ill_sized(self, guest_size: int, cluster_size: int) -> str:
        """Has it room for one bit for each piece of the disk, and not far too much?"""
        if self.table_entries * cluster_size > _BYTES_MAX:
            return "it is too large"
        needed = table_length(guest_size, self.granularity_bits, cluster_size)
        if not self.in_use and self.table_entries != needed:
            return f"its table has {self.table_entries} entries, the disk needs {needed}"
        return ""


def is_table_entry(word: int, cluster_size: int) -> bool:
    """Is this 0, all ones, or the host offset of a cluster?"""
    host = word & OFFSET_MASK
    return not (word & _TABLE_RESERVED or host % cluster_size or (host and word & ALL_ONES))


def bit_count(guest_size: int, granularity_bits: int) -> int:
    """How many bits a bitmap of a disk has."""
    return div_up(guest_size, 1 << granularity_bits)


def payload_length(guest_size: int, granularity_bits: int) -> int:
    """How many bytes QEMU keeps of a bitmap: whole words of 64 bits."""
    return div_up(bit_count(guest_size, granularity_bits), _WORD_BITS) * (_WORD_BITS // 8)


def table_length(guest_size: int, granularity_bits: int, cluster_size: int) -> int:
    """How many entries the table of a bitmap has."""
    return div_up(payload_length(guest_size, granularity_bits), cluster_size)
