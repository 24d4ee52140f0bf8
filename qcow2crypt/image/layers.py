"""What goes down a chain of layers: reads, extents, and closing.  Any number of layers.

Each layer answers for itself (``_read_own``, ``own_extents``, ``_close_own``), and the loops here
ask the layer below for what it lacks.  Nothing here is recursive, or a long chain would need a
deep stack.  Knows guest offsets, and of an image what ``image.base`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from qcow2crypt.errors import FormatError
from qcow2crypt.image.extents import Extent, ExtentKind, merged
from qcow2crypt.units import GuestOffset, HostOffset

if TYPE_CHECKING:
    from qcow2crypt.image.base import Image

Ranges: TypeAlias = Sequence[tuple[int, int]]
"""Ranges of a guest disk in guest order: where each begins and where it ends."""


def layers_of(image: Image | None) -> Iterator[Image]:
    """The image and all that is under it."""
    while image is not None:
        yield image
        image = image.backing


def fill_from(layer: Image | None, view: memoryview, offset: int, missing: Ranges) -> None:
    """Fill what is ``missing`` of a guest disk: the first layer that has a byte gives it.

    ``view`` has the guest bytes from ``offset`` on.  Past the end of a layer, and under the last
    one, there are zeros.  Errors as ``preadinto``, with the name of the layer.
    """
    while layer is not None and missing:
        below = layer.backing
        size = layer.size
        lacking: list[tuple[int, int]] = []
        try:
            layer._check_open()  # noqa: SLF001 - what a format fills in
            for start, end in joined(missing):
                stop = min(end, size)
                if start < stop:
                    part = view[start - offset : stop - offset]
                    lacking += layer._read_own(part, GuestOffset(start))  # noqa: SLF001
                _fill_zeros(view, offset, max(start, stop), end)
        except FormatError as error:
            error.in_file(f"backing file '{layer.name}'")
            raise
        missing, layer = lacking, below
    for start, end in missing:
        _fill_zeros(view, offset, start, end)


def _fill_zeros(view: memoryview, offset: int, start: int, end: int) -> None:
    if start < end:
        view[start - offset : end - offset] = bytes(end - start)


def joined(ranges: Ranges) -> Ranges:
    """The same ranges; those that touch as one."""
    if len(ranges) < 2:
        return ranges
    found = [ranges[0]]
    for start, end in ranges[1:]:
        if start == found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def through_chain(own: Iterable[Extent], backing: Image | None) -> Iterator[Extent]:
    """The extents of a layer as the guest sees them: what it lacks is asked of ``backing``.

    What lies behind the end of a shorter backing file reads as zeros: UNALLOCATED, in the layer
    above that file, as in ``qemu-img map``.  Lazy, in bounded memory.
    """
    return iter(own) if backing is None else merged(_looked_up(own, backing))


class _Asked(NamedTuple):
    """A layer that is being asked: what is left of its answer, and which image is under it."""

    depth: int
    name: str
    answer: Iterator[Extent]
    below: Image | None


def _looked_up(own: Iterable[Extent], backing: Image) -> Iterator[Extent]:
    # One row for each layer down to the one that is being asked.  Not recursive: chains are long.
    asked = [_Asked(0, "", iter(own), backing)]
    while asked:
        depth, name, answer, below = layer = asked[-1]
        try:
            extent = next(answer, None)
        except FormatError as error:
            if depth:
                error.in_file(f"backing file '{name}'")
            raise
        if extent is None:
            asked.pop()
            continue
        start, end = extent.guest_offset, extent.guest_offset + extent.length
        stop = start
        if below is not None and extent.kind is ExtentKind.UNALLOCATED:
            stop = GuestOffset(max(start, min(end, below.size)))
        if below is None or start == stop:
            yield _at_depth(extent, start, depth)
            continue
        if stop < end:  # comes after what the layer below has
            asked.append(layer._replace(answer=iter((_at_depth(extent, stop, 0),))))
        found = below.own_extents(start, stop - start)
        asked.append(_Asked(depth + 1, below.name, found, below.backing))


def _at_depth(extent: Extent, start: GuestOffset, depth: int) -> Extent:
    """The extent from ``start`` on, told of the layer ``depth``."""
    skip = start - extent.guest_offset
    if not skip and not depth:
        return extent
    host = extent.host_offset
    return Extent(
        extent.kind,
        start,
        extent.length - skip,
        None if host is None else HostOffset(host + skip),
        depth,
    )


def close_all(image: Image) -> None:
    """Close an image and all that is under it, whatever of this fails."""
    layers = [layer for layer in layers_of(image) if not layer.closed]
    with ExitStack() as stack:
        for layer in reversed(layers):  # the image itself is the first to be closed
            stack.callback(layer._close_own)  # noqa: SLF001 - what a format fills in
