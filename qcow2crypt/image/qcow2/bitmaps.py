"""Persistent dirty bitmaps: read from one image, and written into another.

Knows directories, tables and bits; never keys or guest bytes.  Bits stand in clear, in encrypted
images too.  Source: the qcow2 document, "Bitmaps"; the order in which the parts are placed is
QEMU's, so that a new image is the same byte for byte.
"""

from __future__ import annotations

import itertools
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from qcow2crypt.errors import FormatError, HeaderError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmapentries import (
    COUNT_MAX,
    DIRECTORY_MAX,
    FIXED,
    KIND,
    BitmapEntry,
    bit_count,
    payload_length,
)
from qcow2crypt.image.qcow2.check.census_tables import read_entries
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.image.qcow2.snapshots import read_within
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import pack_table
from qcow2crypt.units import align_up, div_up

_ALL_ONES = 1
_RESERVED = 0xFF00_0000_0000_01FE
_GRANULARITY_BITS_MAX = 63

Allocate = Callable[[int], int]
"""Take clusters in a row; gives the number of the first."""
Write = Callable[[bytes, int], None]
"""Put bytes at a host offset."""


def read_directory(file: HostFile, pointer: BitmapsPointer) -> Iterator[BitmapEntry]:
    """The entries in the order of the directory.  Raises HeaderError.

    Entries are read one by one and only inside the file.  Not all is checked that QEMU checks:
    that is ``BitmapEntry.fault``.
    """
    offset = pointer.directory_offset
    limit = min(file.size, offset + pointer.directory_size)
    for number in range(pointer.count):
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
        yield BitmapEntry(table, entries, flags, kind, granularity_bits, name, tail[:extra])
        offset = align_up(offset + FIXED.size + len(tail), 8)


@dataclass(frozen=True, slots=True)
class StoredBitmap:
    """A bitmap of an image that is open.  ``readable_bitmap`` checks what it is made of."""

    file: HostFile
    header: Header
    entry: BitmapEntry

    def parts(self, size: int) -> Iterator[tuple[int, bytes]]:
        """The bits in parts of ``size`` bytes, a power of two: number and bytes.

        Only parts with a bit that is set, in ascending order.  Bits behind the last one, up to a
        word of 64, are as they are in the file; they count for nothing.
        """
        bits = bit_count(self.header.guest_size, self.entry.granularity_bits)
        for number, group in itertools.groupby(self._slices(size), key=operator.itemgetter(0)):
            part = bytearray(size)
            for _, at, data in group:
                part[at : at + len(data)] = data
            if any_bit(part, bits - number * size * 8):
                yield number, bytes(part)

    def _slices(self, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Pieces that lie in one part of ``size`` bytes: its number, where in it, bytes."""
        for offset, data in self._clusters():
            for at in range(0, len(data), size):
                yield (*divmod(offset + at, size), data[at : at + size])

    def _clusters(self) -> Iterator[tuple[int, bytes]]:
        """Byte of the bitmap and content, for clusters that are not all zero by their entry."""
        size = self.header.cluster_size
        length = payload_length(self.header.guest_size, self.entry.granularity_bits)
        for index, word in self.words():
            start = index * size
            part = min(size, length - start)
            if host := word & OFFSET_MASK:
                yield start, self.file.pread(part, host)
            else:
                yield start, b"\xff" * part

    def words(self) -> Iterator[tuple[int, int]]:
        """The entries of the table that are not 0, each with its index.  Raises FormatError."""
        size, entry = self.header.cluster_size, self.entry
        for index, word in read_entries(self.file, entry.table_offset, entry.table_entries):
            host = word & OFFSET_MASK
            if word & _RESERVED or host % size or (host and word & _ALL_ONES):
                raise FormatError(
                    f"a table entry of bitmap '{entry.shown}' is not valid",
                    field=f"bitmap table entry {index}",
                    offset=entry.table_offset + index * ENTRY_SIZE,
                    found=f"{word:#018x}",
                    allowed=f"a multiple of {size:#x}, 0 or 1",
                )
            yield index, word


def readable_bitmap(file: HostFile, structure: Structure, entry: BitmapEntry) -> StoredBitmap:
    """A bitmap to be read.  Raises FormatError for what QEMU refuses."""
    header = structure.header
    fault = entry.fault(header.guest_size, header.cluster_size)
    if fault:
        raise HeaderError(
            f"bitmap '{entry.shown}' cannot be used: {fault}",
            field="bitmap directory entry",
            offset=structure.bitmaps.directory_offset if structure.bitmaps else None,
            found=f"{entry.table_entries} table entries at {entry.table_offset:#x}",
            allowed="what the format allows for this disk; 'check' tells more",
        )
    bitmap = StoredBitmap(file, header, entry)
    for _ in bitmap.words():
        pass  # an entry that is not valid shall be told before anything is written
    return bitmap


def store_bitmaps(
    bitmaps: Sequence[StoredBitmap],
    cluster_size: int,
    allocate: Allocate,
    write: Write,
    *,
    present: Sequence[BitmapEntry] = (),
) -> BitmapsPointer:
    """Write bitmaps into another image, and a directory with them behind those ``present``.

    Nothing refers to it yet: the pointer is for the header of that image.  Its disk has the size
    of that which the bitmaps are of.  Raises TargetError, SourceError.
    """
    entries = list(present)
    for bitmap in bitmaps:
        length = payload_length(bitmap.header.guest_size, bitmap.entry.granularity_bits)
        table = array("Q", bytes(ENTRY_SIZE * div_up(length, cluster_size)))
        for number, part in bitmap.parts(cluster_size):
            table[number] = allocate(1) * cluster_size
            write(part, table[number])
        packed = pack_table(table)
        place = allocate(div_up(len(packed), cluster_size)) * cluster_size
        write(packed, place)
        entries.append(replace(bitmap.entry, table_offset=place, table_entries=len(table)))
    directory = b"".join(entry.pack() for entry in entries)
    if len(entries) > COUNT_MAX or len(directory) > DIRECTORY_MAX:
        raise TargetError(f"an image cannot have {len(entries)} bitmaps: the limit is {COUNT_MAX}")
    place = allocate(div_up(len(directory), cluster_size)) * cluster_size
    write(directory, place)
    return BitmapsPointer(len(entries), len(directory), place)


def any_bit(part: bytes | bytearray, bits: int) -> bool:
    """Is one of the first ``bits`` bits set?  The least significant bit of a byte comes first."""
    whole, rest = divmod(min(bits, len(part) * 8), 8)
    if part.count(0, 0, whole) < whole:
        return True
    return bool(rest and part[whole] & ((1 << rest) - 1))
