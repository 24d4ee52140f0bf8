"""Extents in the words of ``qemu-img map``: present, zero, data, offset.

Knows extents, prints nothing.  As in QEMU, neighbours that are stored alike become one entry, and
an offset is given only where the bytes at that offset are the guest's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from qcow2crypt.image.base import Extent, ExtentKind


class MapEntry(NamedTuple):
    """One range of the guest disk.  Offsets and lengths in bytes.

    ``depth`` is the layer that has it: 0 the image, 1 its backing file, and so on.
    ``host_offset`` is where its bytes lie in that file, readable or not; ``raw_offset`` the same,
    or None where the layer is encrypted or they are compressed.
    """

    start: int
    length: int
    present: bool
    zero: bool
    data: bool
    compressed: bool = False
    encrypted: bool = False
    host_offset: int | None = None
    depth: int = 0

    @property
    def raw_offset(self) -> int | None:
        """The offset as ``qemu-img map --output=json`` gives it."""
        return None if self.encrypted or self.compressed else self.host_offset


def map_entries(
    extents: Iterable[Extent], *, encrypted: Sequence[bool], by_host_offset: bool
) -> Iterator[MapEntry]:
    """The entries for ``extents``, merged.

    ``encrypted`` tells it of every layer.  Neighbours are merged where they are stored alike;
    with ``by_host_offset`` only where they also follow each other in the file.
    """
    waiting: MapEntry | None = None
    for extent in extents:
        entry = _entry(extent, encrypted=encrypted[extent.depth])
        if waiting is not None and _joins(waiting, entry, by_host_offset=by_host_offset):
            waiting = waiting._replace(length=waiting.length + entry.length)
            continue
        if waiting is not None:
            yield waiting
        waiting = entry
    if waiting is not None:
        yield waiting


def _entry(extent: Extent, *, encrypted: bool) -> MapEntry:
    data = extent.kind in (ExtentKind.DATA, ExtentKind.COMPRESSED)
    compressed = extent.kind is ExtentKind.COMPRESSED
    return MapEntry(
        start=extent.guest_offset,
        length=extent.length,
        present=extent.kind is not ExtentKind.UNALLOCATED,
        zero=extent.reads_as_zero,
        data=data,
        compressed=compressed,
        encrypted=encrypted and not compressed,
        host_offset=extent.host_offset,
        depth=extent.depth,
    )


def _joins(first: MapEntry, second: MapEntry, *, by_host_offset: bool) -> bool:
    if _kind(first) != _kind(second):
        return False
    if by_host_offset and first.compressed:
        return False
    if by_host_offset:
        return _follows(first.host_offset, second.host_offset, first.length)
    return _follows(first.raw_offset, second.raw_offset, first.length)


def _kind(entry: MapEntry) -> tuple[int, ...]:
    flags = (entry.present, entry.zero, entry.data, entry.compressed, entry.encrypted)
    return (*flags, entry.depth)


def _follows(first: int | None, second: int | None, length: int) -> bool:
    if first is None or second is None:
        return first is second
    return first + length == second
