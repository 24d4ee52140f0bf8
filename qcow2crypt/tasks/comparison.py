"""Do two images hold the same guest disk?  In bounded pieces, and only where one of them has data.

Joins two images through their smallest faces: extents and guest bytes.  The longer disk may go on
with zeros, as ``qemu-img compare`` has it; strict mode also wants equal sizes, and every range
stored in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from qcow2crypt.errors import ComparisonError, MappingError, Qcow2CryptError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, ExtentKind
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.tasks.pipeline import Turn, checked_threads, in_turn
from qcow2crypt.units import GuestOffset, align_up

Progress: TypeAlias = Callable[[int, int], None]
_Pair: TypeAlias = "tuple[Image | None, Image | None]"
"""The images to read; None in place of one stands for zeros."""
_Piece: TypeAlias = "tuple[int, int, _Pair]"
"""Guest offset, length, and what to compare there."""

_PIECE = 2 << 20
_PIECES_MAX = 256
_SLICE_BYTES = 65536
"""QEMU looks at so much of an L2 table at once; an extent that it reports ends there."""


class Comparison(NamedTuple):
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


class _FoundError(Exception):
    """The comparison is over: what it found."""

    def __init__(self, found: Comparison) -> None:
        self.found = found
        super().__init__()


def compare(
    first: Image,
    second: Image,
    *,
    strict: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Comparison:
    """Compare two open images.  They stay open.

    ``progress`` is called with guest bytes done and in all.  Stops at the first difference.
    ``threads`` of 1 to 16 read side by side, None: one for each processor, at most 4; what is found
    is the same.  Raises ComparisonError, which names the image that cannot be read, and where;
    ArgumentError.
    """
    threads = checked_threads(threads)
    sizes = (first.size, second.size)
    if strict and sizes[0] != sizes[1]:
        return Comparison(sizes, strict=True)

    def tell(done: int) -> None:
        if progress:
            progress(done, max(sizes))

    def found(offset: int) -> Comparison:
        return Comparison(sizes, GuestOffset(offset), strict=strict)

    tell(0)
    pieces = _pieces(first, second, strict=strict)
    try:
        in_turn(_gathered(pieces), lambda: _Comparer(found).do, tell, threads)
    except _FoundError as error:
        return error.found
    tell(max(sizes))
    return Comparison(sizes, strict=strict)


def _pieces(first: Image, second: Image, *, strict: bool) -> Iterator[_Piece]:
    """What is to be compared, in guest order.  _FoundError tells a difference of the tables."""
    sizes = (first.size, second.size)
    common, total = min(sizes), max(sizes)
    for offset, length, extents in _shared_extents(first, second, common):
        if strict and _status(first, extents[0], offset) != _status(second, extents[1], offset):
            raise _FoundError(Comparison(sizes, allocation_difference=offset, strict=True))
        yield from _cut(offset, length, (_reader(first, extents[0]), _reader(second, extents[1])))
    longer = first if sizes[0] > sizes[1] else second
    for extent in _extents(longer, common, total):
        yield from _cut(extent.guest_offset, extent.length, (_reader(longer, extent), None))


def _cut(offset: int, length: int, pair: _Pair) -> Iterator[_Piece]:
    if pair == (None, None):
        yield offset, length, pair
        return
    for start in range(offset, offset + length, _PIECE):
        yield start, min(_PIECE, offset + length - start), pair


def _gathered(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Small pieces together.  What ends them early comes after those before it."""
    waiting: list[_Piece] = []
    size = 0
    failure: Exception | None = None
    try:
        for piece in pieces:
            to_read = 0 if piece[2] == (None, None) else piece[1]
            if waiting and (size + to_read > _PIECE or len(waiting) >= _PIECES_MAX):
                yield waiting
                waiting, size = [], 0
            waiting.append(piece)
            size += to_read
    except Exception as error:  # noqa: BLE001 - raised again below
        failure = error
    if waiting:
        yield waiting
    if failure is not None:
        raise failure


class _Comparer:
    """Compares pieces in one thread, with two buffers that are used again and again."""

    def __init__(self, found: Callable[[int], Comparison]) -> None:
        self._found = found
        self._buffers = (bytearray(), bytearray())

    def do(self, pieces: list[_Piece], turn: Turn) -> int:
        """Give where the pieces end.  Raises _FoundError, ComparisonError."""
        del turn  # which of several findings counts, the order of the jobs decides
        at = 0
        while at < len(pieces):
            joined, behind = _joined(pieces, at)
            failed = False
            try:
                self._compare(joined)
            except ComparisonError:
                if behind == at + 1:
                    raise
                failed = True
            for piece in pieces[at:behind] if failed else ():  # which of them it is
                self._compare(piece)
            at = behind
        return pieces[-1][0] + pieces[-1][1]

    def _compare(self, piece: _Piece) -> None:
        offset, length, pair = piece
        if pair == (None, None):
            return
        one, other = (
            _read(image, buffer, offset, length)
            for image, buffer in zip(pair, self._buffers, strict=True)
        )
        if one != other:
            raise _FoundError(self._found(offset + _first_different(one, other)))


def _joined(pieces: list[_Piece], at: int) -> tuple[_Piece, int]:
    """The piece at an index as one with those behind it that are read alike, and where they end."""
    offset, length, pair = pieces[at]
    end = offset + length
    for behind in range(at + 1, len(pieces)):
        start, length, other = pieces[behind]
        if start != end or other != pair or start + length - offset > _PIECE:
            return (offset, end - offset, pair), behind
        end += length
    return (offset, end - offset, pair), len(pieces)


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
    in_clear = in_clear and not layer.encrypted
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
    if image.format == "qcow":
        from qcow2crypt.image.qcow1.reader import Qcow1Image

        if isinstance(image, Qcow1Image):
            return image.structure.header.cluster_size
    return 1 << 63
