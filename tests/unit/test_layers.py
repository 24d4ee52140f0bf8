"""What goes down a chain of layers: reads in the right parts, errors with a name, closing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import ArgumentError, HeaderError, TargetError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.info import ImageInfo
from qcow2crypt.image.layers import Ranges, joined
from qcow2crypt.units import GuestOffset

SIZE = 64


class Layer(Image):
    """A disk of single bytes: those in ``held`` are its own."""

    format = "test"

    def __init__(self, name: str, held: set[int], size: int, backing: Image | None) -> None:
        super().__init__(size)
        self.name = name
        self.held = held
        self.backing = backing
        self.asked: list[tuple[int, int]] = []
        self.unreadable: Exception | None = None
        self.full: Exception | None = None

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        if self.unreadable:
            raise self.unreadable
        self.asked.append((offset, offset + view.nbytes))
        missing = []
        for at in range(offset, offset + view.nbytes):
            if at in self.held:
                view[at - offset] = ord(self.name)
            else:
                missing.append((at, at + 1))
        return missing

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        position, end = self._clip(start, length)
        for at in range(position, end):
            kind = ExtentKind.DATA if at in self.held else ExtentKind.UNALLOCATED
            yield Extent(kind, GuestOffset(at), 1)

    def info(self) -> ImageInfo:
        raise NotImplementedError

    def flush(self) -> None:
        full, self.full = self.full, None  # once: Python closes what is left, too
        if full:
            raise full


def chain(*layers: tuple[set[int], int]) -> Layer:
    """``a`` is the image itself."""
    below: Layer | None = None
    for number in reversed(range(len(layers))):
        below = Layer("abcdefgh"[number], *layers[number], below)
    assert below is not None
    return below


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, SIZE - 1)), st.integers(0, SIZE)), min_size=1, max_size=6
    ),
    st.integers(0, SIZE),
    st.integers(0, SIZE),
)
def test_the_first_layer_that_has_a_byte_gives_it(
    layers: list[tuple[set[int], int]], start: int, length: int
) -> None:
    """A layer also hides what lies under it beyond its own end."""
    disk = bytearray()
    depths = []
    for at in range(layers[0][1]):
        seen, depth = 0, 0
        for depth, (held, size) in enumerate(layers):
            if at >= size:
                depth -= 1  # noqa: PLW2901 - the layer above says that there is nothing
                break
            if at in held:
                seen = ord("abcdefgh"[depth])
                break
        disk.append(seen)
        depths.append(depth)
    image = chain(*layers)
    buffer = memoryview(bytearray(b"?" * length))
    count = image.preadinto(buffer, start)
    assert buffer[:count] == disk[start : start + length]
    assert bytes(buffer[count:]) == b"?" * (length - count)
    found = list(image.extents())
    assert [one.depth for one in found for _ in range(one.length)] == depths
    assert [one.kind is ExtentKind.UNALLOCATED for one in found for _ in range(one.length)] == [
        not byte for byte in disk
    ]


def test_neighbours_are_asked_for_at_once() -> None:
    image = chain(({3}, 10), (set(), 8), (set(), 20))
    image.pread(10, 0)
    middle = image.backing
    assert isinstance(middle, Layer)
    assert middle.asked == [(0, 3), (4, 8)]
    lowest = middle.backing
    assert isinstance(lowest, Layer)
    assert lowest.asked == [(0, 3), (4, 8)]


@given(st.sets(st.integers(0, SIZE)))
def test_joined(places: set[int]) -> None:
    singles = [(at, at + 1) for at in sorted(places)]
    found = joined(singles)
    assert [(at, at + 1) for start, end in found for at in range(start, end)] == singles
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))


def test_an_error_names_its_layer_once() -> None:
    image = chain((set(), 8), (set(), 8), (set(), 8))
    assert image.backing is not None
    lowest = image.backing.backing
    assert isinstance(lowest, Layer)
    lowest.unreadable = HeaderError("bad", field="x", offset=None, found="1", allowed="2")
    with pytest.raises(HeaderError, match=r"allowed: 2 \(in backing file 'c'\)$"):
        image.pread(1, 0)
    image.unreadable = HeaderError("bad", field="x", offset=None, found="1", allowed="2")
    with pytest.raises(HeaderError, match=r"allowed: 2$"):
        image.pread(1, 0)


def test_a_layer_that_is_closed_is_not_read() -> None:
    image = chain(({0}, 8), (set(), 8))
    assert image.backing is not None
    image.backing.close()
    assert image.pread(1, 0) == b"a"
    with pytest.raises(ArgumentError, match="closed"):
        image.pread(2, 0)


def test_all_layers_are_closed_when_one_of_them_fails() -> None:
    image = chain((set(), 8), (set(), 8), (set(), 8))
    image.full = TargetError("the disk is full")
    layers = [image, image.backing, image.backing and image.backing.backing]
    with pytest.raises(TargetError, match="full"):
        image.close()
    assert all(layer is not None and layer.closed for layer in layers)
    image.close()
