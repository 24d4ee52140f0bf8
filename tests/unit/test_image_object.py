"""An image as a Python file object, its positional reads and its extents."""

from __future__ import annotations

import io
import mmap
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.whole_image import CLUSTER, CLUSTERS, DISK, FILE, SECRET

import qcow2crypt
from qcow2crypt.errors import ArgumentError, ReadOnlyError
from qcow2crypt.image.base import ExtentKind, Image
from qcow2crypt.image.qcow2.decompressors import Decompressor, decompressor
from qcow2crypt.units import ReadBuffer


@pytest.fixture
def image() -> Iterator[Image]:
    with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as opened:
        yield opened


def test_the_image_has_every_kind_of_cluster(image: Image) -> None:
    assert {extent.kind for extent in image.extents()} == set(ExtentKind)


class TestReads:
    def test_the_whole_disk(self, image: Image) -> None:
        assert image.size == len(DISK)
        assert image.readall() == DISK
        assert image.readall() == b""
        assert image.pread(len(DISK), 0) == DISK

    @given(st.data())
    def test_any_range(self, data: st.DataObject) -> None:
        borders = st.integers(0, CLUSTERS).map(lambda n: n * CLUSTER) | st.integers(
            0, len(DISK) // 512
        ).map(lambda n: n * 512)
        near = st.tuples(borders, st.integers(-17, 17)).map(lambda pair: max(0, sum(pair)))
        offset = data.draw(near | st.integers(0, len(DISK) + 600))
        length = data.draw(st.integers(0, 1100) | st.integers(0, 3 * CLUSTER))
        with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as image:
            assert image.pread(length, offset) == DISK[offset : offset + length]

    def test_every_small_range_around_the_borders(self, image: Image) -> None:
        for border in (512, CLUSTER, 2 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER, 8 * CLUSTER, len(DISK)):
            for start in range(border - 3, border + 4):
                for length in (0, 1, 2, 3, 4, 509, 510, 511, 512, 513, 514, 515, 1023, 1024, 1025):
                    assert image.pread(length, start) == DISK[start : start + length]

    @pytest.mark.parametrize("offset", [len(DISK), len(DISK) + 1, 2**40, 2**63, 2**70])
    def test_behind_the_end_is_nothing(self, offset: int, image: Image) -> None:
        assert image.pread(10, offset) == b""
        assert image.preadinto(bytearray(10), offset) == 0

    def test_a_compressed_cluster_is_inflated_once(
        self, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reading it in small steps does not do the work over and over."""
        done = []

        def spy(size: int, kind: int) -> Decompressor:
            decompress = decompressor(size, kind)

            def spied(data: ReadBuffer) -> bytes:
                done.append(len(data))
                return decompress(data)

            return spied

        monkeypatch.setattr("qcow2crypt.image.decompressed.decompressor", spy)
        start, end = 4 * CLUSTER, 5 * CLUSTER
        steps = [image.pread(100, at) for at in range(start, end, 100)]
        assert b"".join(steps)[:CLUSTER] == DISK[start:end]
        assert len(done) == 1

    def test_short_at_the_end(self, image: Image) -> None:
        buffer = bytearray(b"\xff" * 20)
        assert image.preadinto(buffer, len(DISK) - 7) == 7
        assert buffer == DISK[-7:] + b"\xff" * 13

    @pytest.mark.parametrize("length", [2**40, 2**63, 2**70])
    def test_more_than_there_is(self, length: int, image: Image) -> None:
        assert image.pread(length, len(DISK) - 5) == DISK[-5:]

    @pytest.mark.parametrize(
        "make",
        [
            bytearray,
            lambda n: memoryview(bytearray(n)),
            lambda n: array("B", bytes(n)),
            lambda n: array("H", bytes(n)),
            lambda n: memoryview(array("d", bytes(n))),
            lambda n: mmap.mmap(-1, n),
            lambda n: memoryview(bytearray(n)).cast("B", (8, n // 8)),
        ],
    )
    def test_into_any_buffer(self, make: Any, image: Image) -> None:
        buffer = make(1024)
        assert image.preadinto(buffer, 700) == 1024
        assert bytes(buffer) == DISK[700:1724]

    def test_into_a_part_of_a_buffer(self, image: Image) -> None:
        buffer = bytearray(3000)
        assert image.preadinto(memoryview(buffer)[100:200], 511) == 100
        assert buffer == bytes(100) + DISK[511:611] + bytes(2800)

    def test_into_nothing(self, image: Image) -> None:
        assert image.preadinto(bytearray(), 5) == 0
        assert image.pread(0, 5) == b""

    @pytest.mark.parametrize(
        "buffer", [b"read-only", memoryview(b"x" * 8), 7, None, memoryview(bytearray(8))[::2]]
    )
    def test_what_is_no_buffer(self, buffer: Any, image: Image) -> None:
        with pytest.raises(ArgumentError):
            image.preadinto(buffer, 0)

    def test_what_is_no_range(self, image: Image) -> None:
        with pytest.raises(ArgumentError, match=r"guest offset -1 is negative"):
            image.pread(1, -1)
        with pytest.raises(ArgumentError, match=r"guest offset -1 is negative"):
            image.preadinto(bytearray(1), -1)
        with pytest.raises(ArgumentError, match=r"length -1 is negative"):
            image.pread(-1, 0)


class TestFileObject:
    def test_reading_moves_the_cursor(self, image: Image) -> None:
        assert image.tell() == 0
        assert image.read(10) == DISK[:10]
        assert image.tell() == 10
        assert image.read(600) == DISK[10:610]
        assert image.readinto(bytearray(5)) == 5
        assert image.tell() == 615
        assert image.read() == DISK[615:]
        assert image.tell() == len(DISK)
        assert image.read(1) == b""
        assert image.readinto(bytearray(1)) == 0

    def test_positional_reads_do_not(self, image: Image) -> None:
        image.seek(100)
        image.pread(50, 7000)
        image.preadinto(bytearray(50), 7000)
        assert image.tell() == 100

    def test_seeking(self, image: Image) -> None:
        assert image.seek(100) == 100
        assert image.seek(5, os.SEEK_CUR) == 105
        assert image.seek(-5, os.SEEK_END) == len(DISK) - 5
        assert image.read() == DISK[-5:]
        assert image.seek(2**40) == 2**40
        assert image.read(5) == b""
        assert image.seek(0) == 0

    @pytest.mark.parametrize(
        ("offset", "whence"), [(-1, 0), (-1, 1), (-(2**40), 2), (0, 3), (0, 9)]
    )
    def test_seeking_where_nothing_is(self, offset: int, whence: int, image: Image) -> None:
        with pytest.raises(ArgumentError):
            image.seek(offset, whence)
        assert image.tell() == 0

    def test_what_it_can_do(self, image: Image) -> None:
        assert isinstance(image, io.RawIOBase)
        assert image.readable()
        assert image.seekable()
        assert not image.writable()
        assert not image.isatty()
        assert not image.closed
        with pytest.raises(OSError, match="fileno"):
            image.fileno()

    def test_every_write_is_refused(self, image: Image) -> None:
        before = image.pread(len(DISK), 0)
        writes: list[Callable[[], object]] = [
            lambda: image.pwrite(b"x", 0),
            lambda: image.write(b"x"),
            lambda: image.write_zeroes(0, 512),
            lambda: image.discard(0, 512),
            lambda: image.truncate(0),
        ]
        for write in writes:
            with pytest.raises(ReadOnlyError, match="open read-only"):
                write()
        image.flush()
        assert image.tell() == 0
        assert image.pread(len(DISK), 0) == before

    def test_inside_a_buffered_reader(self, image: Image) -> None:
        reader = io.BufferedReader(image, buffer_size=1000)
        assert reader.read(700) == DISK[:700]
        assert reader.peek(1)[:1] == DISK[700:701]
        assert reader.read1(10) == DISK[700:710]
        assert reader.seek(-20, os.SEEK_END) == len(DISK) - 20
        assert reader.read() == DISK[-20:]
        reader.seek(4090)
        buffer = bytearray(5000)
        assert reader.readinto(buffer) == 5000
        assert buffer == DISK[4090:9090]
        reader.seek(0)
        assert b"".join(iter(lambda: reader.read(777), b"")) == DISK
        reader.close()
        assert image.closed

    def test_lines(self, image: Image) -> None:
        assert b"".join(io.BufferedReader(image)) == DISK

    def test_copying_with_the_standard_library(self, image: Image, tmp_path: Path) -> None:
        with (tmp_path / "copy").open("wb") as target:
            shutil.copyfileobj(image, target, 1234)
        assert (tmp_path / "copy").read_bytes() == DISK

    def test_its_text_shows_no_secret(self, image: Image) -> None:
        assert repr(image) == f"<Qcow2Image '<BytesIO>' {len(DISK)} bytes>"
        image.close()
        assert repr(image) == f"<Qcow2Image '<BytesIO>' {len(DISK)} bytes closed>"


class TestExtents:
    @given(st.integers(0, len(DISK)), st.integers(0, len(DISK)) | st.none())
    def test_extents_are_a_partition_of_the_range(self, start: int, length: int | None) -> None:
        with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as image:
            end = len(DISK) if length is None else min(len(DISK), start + length)
            found = list(image.extents(start, None if length is None else end - start))
            position = start
            for extent in found:
                assert extent.guest_offset == position
                assert extent.length > 0
                if extent.reads_as_zero:
                    assert not any(DISK[position : position + extent.length])
                position += extent.length
            assert position == end

    def test_the_image_of_this_test(self, image: Image) -> None:
        kinds = [(extent.kind.value, extent.length) for extent in image.extents()]
        assert kinds == [
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("unallocated", CLUSTER),
            ("zero", CLUSTER),
            ("compressed", CLUSTER),
            ("data", CLUSTER),
            ("zero", CLUSTER),
            ("compressed", CLUSTER),
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("unallocated", 1536),
        ]

    @pytest.mark.parametrize(
        ("start", "length"),
        [(-1, 1), (0, -1), (0, len(DISK) + 1), (len(DISK) + 1, 0), (5, -1), (2**70, None)],
    )
    def test_what_is_no_range(self, start: int, length: int | None, image: Image) -> None:
        with pytest.raises(ArgumentError, match=r"is not inside the disk"):
            list(image.extents(start, length))

    def test_the_end_is_a_range(self, image: Image) -> None:
        assert list(image.extents(len(DISK))) == []
        assert list(image.extents(len(DISK), 0)) == []
