"""An image over a backing image: what it lacks, sizes that differ, and files that are not given."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import ArgumentError, ExternalReferenceError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import ImageInfo
from qcow2crypt.image.layers import Ranges
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.raw import RawImage
from qcow2crypt.testing.damage.tiny import COPIED, put, put_fields, tiny
from qcow2crypt.units import GuestOffset, HostOffset

DATA, ZEROS, NONE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED
CLUSTER = 512
NAME = b"base"
TINY = tiny()


def file_of(data: bytes) -> HostFile:
    return HostFile(io.BytesIO(data))


def overlay_data(size: int = 2048) -> bytes:
    """Clusters: data, data, not stored, zero; then nothing."""
    fields = {"backing_file_offset": 200, "backing_file_size": len(NAME), "size": size}
    return put(put_fields(TINY.data, fields), 200, NAME)


def overlay(base: bytes, size: int = 2048) -> Qcow2Image:
    return Qcow2Image(file_of(overlay_data(size)), backing=RawImage(file_of(base)))


def seen(base: bytes, size: int) -> bytes:
    """The guest disk, byte by byte from the document."""
    own = TINY.content[:1024]
    return (own + base.ljust(size, b"\0")[1024:1536] + bytes(512) + base[2048:size])[:size].ljust(
        size, b"\0"
    )


@given(st.integers(0, 40), st.integers(0, 60), st.data())
def test_bases_of_any_size(sectors: int, size: int, data: st.DataObject) -> None:
    base = random.Random(sectors).randbytes(sectors * 512)
    size *= 512
    start = data.draw(st.integers(0, size + 10))
    length = data.draw(st.integers(0, size + 10))
    with overlay(base, size) as image:
        expected = seen(base, size)
        assert image.readall() == expected
        assert image.pread(length, start) == expected[start : start + length]
        assert sum(extent.length for extent in image.extents()) == size
        for extent in image.extents():
            if extent.reads_as_zero:
                at = extent.guest_offset
                assert not any(expected[at : at + extent.length])


def test_extents_tell_the_layer() -> None:
    with overlay(b"x" * 2560, 4096) as image:
        assert list(image.own_extents()) == [
            Extent(DATA, GuestOffset(0), 1024, HostOffset(TINY.clusters[0])),
            Extent(NONE, GuestOffset(1024), 512),
            Extent(ZEROS, GuestOffset(1536), 512),
            Extent(NONE, GuestOffset(2048), 2048),
        ]
        assert list(image.extents()) == [
            Extent(DATA, GuestOffset(0), 1024, HostOffset(TINY.clusters[0])),
            Extent(DATA, GuestOffset(1024), 512, HostOffset(1024), depth=1),
            Extent(ZEROS, GuestOffset(1536), 512),
            Extent(DATA, GuestOffset(2048), 512, HostOffset(2048), depth=1),
            Extent(NONE, GuestOffset(2560), 1536),
        ]
        assert list(image.extents(2500, 100)) == [
            Extent(DATA, GuestOffset(2500), 60, HostOffset(2500), depth=1),
            Extent(NONE, GuestOffset(2560), 40),
        ]


def test_three_layers() -> None:
    lowest = RawImage(file_of(b"z" * 4096))
    middle = Qcow2Image(file_of(overlay_data(2560)), backing=lowest)
    with Qcow2Image(file_of(overlay_data(4096)), backing=middle) as image:
        assert [(extent.kind, extent.depth, extent.length) for extent in image.extents()] == [
            (DATA, 0, 1024),
            (DATA, 2, 512),
            (ZEROS, 0, 512),
            (DATA, 2, 512),
            (NONE, 0, 1536),
        ]
        assert image.readall() == (
            TINY.content[:1024] + b"z" * 512 + bytes(512) + b"z" * 512 + bytes(1536)
        )
    assert middle.closed
    assert lowest.closed


def test_a_closed_overlay_has_closed_its_base_and_reads_no_more() -> None:
    image = overlay(bytes(512))
    base = image.backing
    image.close()
    assert base is not None
    assert base.closed
    with pytest.raises(ArgumentError, match="closed"):
        image.pread(1, 0)


class Spied(Image):
    """A base of 2 TiB in extents of one sector, that counts how many were asked for."""

    format = "raw"
    name = "spied"

    def __init__(self) -> None:
        super().__init__(2 << 40)
        self.asked = 0

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        position, end = self._clip(start, length)
        while position < end:
            self.asked += 1
            kind = DATA if position // 512 % 2 else ZEROS
            yield Extent(kind, position, 512, HostOffset(position))
            position = GuestOffset(position + 512)

    def info(self) -> ImageInfo:
        raise NotImplementedError

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        raise NotImplementedError


def test_extents_are_made_when_they_are_asked_for() -> None:
    header = {"size": 2 << 40, "cluster_bits": 21, "l1_size": 1 << 20}
    base = Spied()
    data = put(put_fields(tiny(cluster_bits=21).data[:112], header), 200, NAME)
    data = put_fields(data, {"backing_file_offset": 200, "backing_file_size": len(NAME)})
    with Qcow2Image(file_of(data), backing=base) as image:
        extents = image.extents()
        tracemalloc.start()
        for _ in range(5000):
            next(extents)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert base.asked < 5010
        assert peak < 1 << 20


def test_empty_l1_tables_are_passed_over() -> None:
    """512 TiB, 32 MiB of L1 table in the file, one table in it: three extents, at once."""
    entries = 1 << 22
    l1 = bytearray(8 * entries)
    l1_offset = 1 << 16
    l2_offset = l1_offset + len(l1)
    struct.pack_into(">Q", l1, 8 * 3_000_000, l2_offset | COPIED)
    size = entries << 29
    fields = {"size": size, "l1_size": entries, "l1_table_offset": l1_offset}
    head = put_fields(tiny(cluster_bits=16).data[:112], fields).ljust(l1_offset, b"\0")
    file = head + l1 + struct.pack(">Q", 5 << 16).ljust(1 << 16, b"\0")
    with Qcow2Image(file_of(file)) as image:
        steps = 0
        run_at = image._map.run_at

        def counted(position: int, end: int) -> object:
            nonlocal steps
            steps += 1
            return run_at(position, end)

        image._map.run_at = counted  # type: ignore[method-assign, assignment]
        at = 3_000_000 << 29
        assert [(e.kind, e.guest_offset, e.length) for e in image.extents()] == [
            (NONE, 0, at),
            (DATA, at, 1 << 16),
            (NONE, at + (1 << 16), size - at - (1 << 16)),
        ]
        assert steps < 6
        assert image.pread(10, at - 5) == bytes(10)


class TestFilesThatTheImageNames:
    def test_a_backing_file_must_be_given_or_waived(self) -> None:
        with pytest.raises(ExternalReferenceError, match="refers to 'base'") as caught:
            Qcow2Image(file_of(overlay_data()))
        assert caught.value.reference == "base"
        with Qcow2Image(file_of(overlay_data()), without_backing=True) as image:
            assert image.readall() == TINY.content
        base = RawImage(file_of(b""))
        with pytest.raises(ArgumentError, match="exclude each other"):
            Qcow2Image(file_of(overlay_data()), backing=base, without_backing=True)
        assert not base.closed

    def test_a_backing_image_may_be_given_to_an_image_that_names_none(self) -> None:
        base = RawImage(file_of(b"y" * 2048))
        with Qcow2Image(file_of(TINY.data), backing=base) as image:
            assert image.pread(512, 1024) == b"y" * 512

    def test_a_data_file_must_be_given_where_it_is_asked_for_and_nowhere_else(self) -> None:
        data = put_fields(TINY.data, {"incompatible_features": 4})
        with pytest.raises(ExternalReferenceError, match="external data file"):
            Qcow2Image(file_of(data))
        with pytest.raises(ArgumentError, match="has no external data file"):
            Qcow2Image(file_of(TINY.data), data_file=file_of(b""))


class TestExternalDataFile:
    """Clusters: at 0 with the copied bit, at their place, not stored, zero."""

    TABLE = struct.pack(">4Q", COPIED, CLUSTER | COPIED, 0, 1)
    FILE = put(put_fields(TINY.data, {"incompatible_features": 4}), TINY.l2, TABLE)

    @pytest.mark.parametrize("length", [0, 700, 1024, 5000])
    def test_data_comes_from_it(self, length: int) -> None:
        content = random.Random(5).randbytes(length)
        with Qcow2Image(file_of(self.FILE), data_file=file_of(content)) as image:
            assert image.readall() == content[:1024].ljust(2048, b"\0")
            assert list(image.extents()) == [
                Extent(DATA, GuestOffset(0), 1024, HostOffset(0)),
                Extent(NONE, GuestOffset(1024), 512),
                Extent(ZEROS, GuestOffset(1536), 512),
            ]

    def test_it_is_closed_with_the_image(self) -> None:
        data_file = file_of(b"")
        with Qcow2Image(file_of(self.FILE), data_file=data_file):
            pass
        assert data_file._file is None
