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
from qcow2crypt.image.qcow2.bitmapdirectory import read_directory
from qcow2crypt.image.qcow2.bitmapentries import (
    COUNT_MAX,
    DIRECTORY_MAX,
    BitmapEntry,
    bit_count,
    is_table_entry,
    payload_length,
    table_length,
)
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.extensions import BitmapsPointer
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import pack_table, read_entries
from qcow2crypt.units import div_up

Allocate = Callable[[int], int]
"""Take clusters in a row; gives the number of the first."""
Write = Callable[[bytes, int], None]
"""Put bytes at a host offset."""


def bitmap_entries(file: HostFile, structure: Structure) -> tuple[BitmapEntry, ...]:
    """What the directory of an image says; empty where there is none.  Raises HeaderError."""
    pointer = structure.bitmaps
    return () if pointer is None else tuple(read_directory(file, pointer))


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
            if not is_table_entry(word, size):
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
        length = table_length(bitmap.header.guest_size, bitmap.entry.granularity_bits, cluster_size)
        table = array("Q", bytes(ENTRY_SIZE * length))
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
