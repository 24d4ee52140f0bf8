"""Put another image under an overlay: the work of ``rebase``.

First what the new backing file shows otherwise is copied from the old one into the overlay, then
the header names the new one.  Until then the overlay shows the same with the old one, so a crash
on the way loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from qcow2crypt.errors import (
    ArgumentError,
    BackingChainError,
    Qcow2CryptError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import Image
from qcow2crypt.image.chain import backing_place
from qcow2crypt.image.describe import describe_file
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow2.bulk.headercluster import write_backing
from qcow2crypt.image.qcow2.check.rebuild import repair_dirty
from qcow2crypt.image.qcow2.edit.editable import editable
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.units import align_down

Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20


def rebase(
    image: Image,
    backing: Image | None,
    *,
    name: str | None,
    backing_format: str | None,
    progress: Progress | None = None,
) -> None:
    """Let the open, writable ``image`` be an overlay of ``backing``; its disk stays what it is.

    ``name`` and ``backing_format`` are what the header says of it; with None for ``backing`` and
    ``name`` the image gets all data, and stands alone.  ``image`` takes ``backing`` over.
    Internal snapshots read through the new backing file from then on, as with qemu-img.

    Raises ArgumentError, ReadOnlyError, and what reading and writing raise.
    """
    _check_names(name, backing_format)
    if (backing is None) != (not name):
        raise ArgumentError("a backing image and its name are given together, or neither is")
    if not isinstance(image, Qcow2Editor):
        raise UnsupportedFeatureError(f"a backing file under '{image.name}' ({image.format})")
    for extent in image.own_extents():
        if progress:
            progress(extent.guest_offset, image.size)
        if extent.kind is ExtentKind.UNALLOCATED:
            start, end = extent.guest_offset, extent.guest_offset + extent.length
            for first, last in _worth_comparing(image.backing, backing, start, end):
                _copy_differences(image, backing, first, last)
    image.flush()
    image.rebase(backing, name or None, backing_format if name else None)
    if progress:
        progress(image.size, image.size)


def set_backing(source: Source, name: str | None, backing_format: str | None) -> None:
    """Change the names in the header and nothing else: the disk is what the new file makes of it.

    The old and the new backing file need not be there.  A new one that lies on ``source`` itself
    is refused with BackingChainError.  Raises ArgumentError, ReadOnlyError, ImageLockedError,
    HeaderError, SourceError, TargetError, UnsupportedFeatureError.
    """
    _check_names(name, backing_format)
    file = HostFile(source, writable=True)
    try:
        file.lock(writing=True)
        found = probe(file)
        if found != "qcow2":
            raise UnsupportedFeatureError(f"a backing file under '{file.name}' ({found})")
        structure = editable(file, None, repair_dirty)
        if name:
            _refuse_loop(file, name, backing_format)
        write_backing(file, structure, name, backing_format if name else None)
    finally:
        file.close()


def check_new_backing(image: Image, name: str, backing_format: str | None) -> None:
    """Raises BackingChainError where a new backing file is ``image`` itself, or lies on it.

    To be asked before that file is opened: else the lock that we hold is all that is found.
    """
    if isinstance(image, Qcow2Editor):
        _refuse_loop(image.host_file, name, backing_format)


def _refuse_loop(file: HostFile, name: str, backing_format: str | None) -> None:
    if _leads_to(file, name, backing_format):
        raise BackingChainError(
            f"'{name}' is '{file.name}' itself or lies on it: the chain of backing files would "
            "have a loop, and nobody could open the image; name another backing file"
        )


def _leads_to(file: HostFile, name: str, backing_format: str | None) -> bool:
    """What cannot be opened leads nowhere: it may be the name of a file that is still to come."""
    met = set()
    with contextlib.suppress(Qcow2CryptError):
        place = backing_place(file, name, backing_format, LayerOptions(), depth=1)
        while place is not None:
            with contextlib.closing(HostFile(place.path)) as below:
                if below.identity() == file.identity():
                    return True
                if below.identity() in met:
                    return False  # a loop of its own, which opening will tell
                met.add(below.identity())
                info, said = describe_file(below, place.options.format), place.options.backing
                place = backing_place(
                    *(below, info.backing_file, info.backing_format, said or LayerOptions()),
                    depth=place.depth + 1,
                )
    return False


def _check_names(name: str | None, backing_format: str | None) -> None:
    if name and not backing_format:
        raise ArgumentError(f"the format of the backing file '{name}' must be given")


def _worth_comparing(
    old: Image | None, new: Image | None, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """The ranges where not both read as zeros, by what their tables say."""
    first = _zero_map(old, start, end)
    second = _zero_map(new, start, end)
    position = start
    (stop_a, zero_a), (stop_b, zero_b) = next(first, (end, True)), next(second, (end, True))
    while position < end:
        stop = min(stop_a, stop_b)
        if not (zero_a and zero_b):
            yield position, stop
        position = stop
        if stop == stop_a:
            stop_a, zero_a = next(first, (end, True))
        if stop == stop_b:
            stop_b, zero_b = next(second, (end, True))


def _zero_map(image: Image | None, start: int, end: int) -> Iterator[tuple[int, bool]]:
    """Up to where each range goes, and whether it reads as zeros."""
    inside = 0 if image is None else min(end, image.size)
    if image is not None and start < inside:
        for extent in image.extents(start, inside - start):
            yield extent.guest_offset + extent.length, extent.reads_as_zero
    if inside < end:
        yield end, True


def _copy_differences(image: Qcow2Editor, new: Image | None, start: int, end: int) -> None:
    """Write into ``image`` the clusters of a range that its old and its new backing file show
    differently.
    """
    unit, old = image.structure.header.cluster_size, image.backing
    step = max(unit, align_down(_PIECE, unit))
    at = start
    while at < end:
        stop = min(end, align_down(at, step) + step)
        wanted, offered = _read(old, at, stop), _read(new, at, stop)
        if wanted != offered:
            for place in range(align_down(at, unit), stop, unit):
                a, b = max(place, at) - at, min(place + unit, stop) - at
                if wanted[a:b] != offered[a:b]:
                    _store(image, wanted[a:b], at + a)
        at = stop


def _store(image: Qcow2Editor, data: bytes, offset: int) -> None:
    # Version 2 has no zero flag, and an image without a backing file needs none yet.
    if any(data) or image.structure.header.version < 3:
        image.pwrite(data, offset)
    else:
        image.write_zeroes(offset, len(data))


def _read(image: Image | None, start: int, end: int) -> bytes:
    data = b"" if image is None or start >= image.size else image.pread(end - start, start)
    return data.ljust(end - start, b"\0")
