"""Do two images hold the same guest disk?  In bounded pieces, and only where one of them has data.

Joins two images through their smallest faces: extents and guest bytes.  The longer disk may go on
with zeros, as ``qemu-img compare`` has it; strict mode also wants equal sizes, and every range
stored in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qcow2crypt.errors import ComparisonError, MappingError, Qcow2CryptError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, ExtentKind
from qcow2crypt.image.qcow1.reader import Qcow1Image
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.units import GuestOffset, align_up

Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20
_SLICE_BYTES = 65536
"""QEMU looks at so much of an L2 table at once; an extent that it reports ends there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.  All offsets are guest offsets in bytes.

    ``sizes``                 of the two disks
    ``first_difference``      the first byte that differs, None if none does
    ``allocation_difference`` in strict mode, where the two are first stored in another way; it
                              ends the comparison, and so does a difference of the sizes
    """

    sizes: tuple[int, int]
    first_difference: GuestOffset | None = None
    allocation_difference: GuestOffset | None = None
    strict: bool = False

    @property
    def same_size(self) -> bool:
        """Whether the disks are equally large."""
        return self.sizes[0] == self.sizes[1]

    @property
    def identical(self) -> bool:
        """The verdict: the same bytes, up to zeros at the end of one; strict: stored alike too."""
        if self.strict and not self.same_size:
            return False
        return self.first_difference is None and self.allocation_difference is None


def compare(
    first: Image, second: Image, *, strict: bool = False, progress: Progress | None = None
) -> Comparison:
    """Compare two open images.  They stay open.

    ``progress`` is called with guest bytes done and in all.  Stops at the first difference.
    Raises ComparisonError, which names the image that cannot be read, and where.
    """
    sizes = (first.size, second.size)
    if strict and sizes[0] != sizes[1]:
        return Comparison(sizes, strict=True)
    common, total = min(sizes), max(sizes)

    def tell(done: int) -> None:
        if progress:
            progress(done, total)

    tell(0)
    for offset, length, extents in _shared_extents(first, second, common):
        if strict and _status(first, extents[0], offset) != _status(second, extents[1], offset):
            return Comparison(sizes, allocation_difference=offset, strict=True)
        pair = (_reader(first, extents[0]), _reader(second, extents[1]))
        found = _first_difference(pair, offset, length, tell)
        if found is not None:
            return Comparison(sizes, found, strict=strict)
    longer = first if sizes[0] > sizes[1] else second
    for extent in _extents(longer, common, total):
        pair = (_reader(longer, extent), None)
        found = _first_difference(pair, extent.guest_offset, extent.length, tell)
        if found is not None:
            return Comparison(sizes, found, strict=strict)
    tell(total)
    return Comparison(sizes, strict=strict)


def _reader(image: Image, extent: Extent) -> Image | None:
    """The image to read an extent from; None where it is all zeros."""
    return None if extent.reads_as_zero else image


def _shared_extents(
    first: Image, second: Image, end: int
) -> Iterator[tuple[GuestOffset, int, tuple[Extent, Extent]]]:
    """Ranges over which neither image changes the way of storing: offset, length, both extents."""
    one, other = _extents(first, 0, end), _extents(second, 0, end)
    left = right = None
    position = 0
    while position < end:
        if left is None or left.guest_offset + left.length <= position:
            left = next(one)
        if right is None or right.guest_offset + right.length <= position:
            right = next(other)
        stop = min(left.guest_offset + left.length, right.guest_offset + right.length)
        yield GuestOffset(position), stop - position, (left, right)
        position = stop


def _extents(image: Image, start: int, end: int) -> Iterator[Extent]:
    """The extents of an image, so that a damaged table comes up only behind what precedes it."""
    position = start
    try:
        for extent in image.extents(start, end - start):
            yield extent
            position = extent.guest_offset + extent.length
    except MappingError as error:
        if position < error.guest_offset < end:
            yield from image.extents(position, error.guest_offset - position)
        where = max(position, error.guest_offset)
        raise ComparisonError(image.name, where, str(error), in_tables=True) from error


def _first_difference(
    pair: tuple[Image | None, Image | None],
    start: GuestOffset,
    length: int,
    tell: Callable[[int], None],
) -> GuestOffset | None:
    """The first byte of a range that differs.  None in place of an image stands for zeros."""
    end = start + length
    if pair == (None, None):
        tell(end)
        return None
    buffers = (bytearray(), bytearray())
    for offset in range(start, end, _PIECE):
        count = min(_PIECE, end - offset)
        one, other = (
            _read(image, buffer, offset, count) for image, buffer in zip(pair, buffers, strict=True)
        )
        if one != other:
            return GuestOffset(offset + _first_different(one, other))
        tell(offset + count)
    return None


def _read(image: Image | None, buffer: bytearray, offset: int, length: int) -> bytes | bytearray:
    """Guest bytes, in ``buffer`` if any are read."""
    if image is None:
        return bytes(length)
    if len(buffer) != length:
        buffer[:] = bytes(length)
    try:
        image.preadinto(buffer, offset)
    except Qcow2CryptError as error:
        raise ComparisonError(image.name, offset, str(error), in_tables=False) from error
    return buffer


def _first_different(one: bytes | bytearray, other: bytes | bytearray) -> int:
    """The position of the first byte that differs in two that are not equal."""
    low, high = 0, len(one)
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] != other[low:middle]:
            high = middle
        else:
            low = middle
    return low


def _status(image: Image, extent: Extent, offset: int) -> tuple[bool, ...]:
    """How a range is stored, in the flags that strict mode of qemu-img compares.

    Allocated, zero, data, readable in the file as it is; and, odd but so, whether what QEMU
    reports at once from ``offset`` on reaches the end of the disk.
    """
    layer: Image = image
    reach = _reach(layer)
    for _ in range(extent.depth):
        if layer.backing is None:
            break
        layer = layer.backing
        reach = min(reach, _reach(layer))
    raw = layer.format == "raw"
    data = extent.kind in (ExtentKind.DATA, ExtentKind.COMPRESSED)
    in_clear = extent.host_offset is not None and extent.kind is not ExtentKind.COMPRESSED
    in_clear = in_clear and not getattr(layer, "encrypted", False)
    reaches_end = extent.guest_offset + extent.length == image.size
    return (
        raw or extent.kind is not ExtentKind.UNALLOCATED,
        extent.reads_as_zero,
        data,
        in_clear,
        reaches_end and align_up(offset + 1, reach) >= image.size,
    )


def _reach(image: Image) -> int:
    """Where extents end for QEMU at the latest: at multiples of so many guest bytes."""
    if isinstance(image, Qcow2Image):
        header = image.structure.header
        return header.l2_coverage * min(header.cluster_size, _SLICE_BYTES) // header.cluster_size
    if isinstance(image, Qcow1Image):
        return image.structure.header.cluster_size
    return 1 << 63
