"""Raw images: the file is the disk, with its holes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.raw import RawImage
from qcow2crypt.testing.witness import Disk, QemuImg

MIB = 1 << 20


def raw(data: bytes) -> RawImage:
    return RawImage(HostFile(io.BytesIO(data)))


def ranges(extents: list[Extent], kind: ExtentKind) -> list[tuple[int, int]]:
    return [(one.guest_offset, one.length) for one in extents if one.kind is kind]


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1000, 1024])
def test_a_last_part_sector_is_filled_up(length: int) -> None:
    data = b"\xa5" * length
    with raw(data) as image:
        assert image.size == -(-length // 512) * 512
        assert image.readall() == data.ljust(image.size, b"\0")
        assert [one.length for one in image.extents()] == ([image.size] if length else [])


@given(st.binary(max_size=1500), st.integers(0, 2000), st.integers(0, 700))
def test_a_read_is_a_slice(data: bytes, offset: int, length: int) -> None:
    with raw(data) as image:
        whole = data.ljust(image.size, b"\0")
        assert image.pread(length, offset) == whole[offset : offset + length]


def sparse_file(path: Path, pattern: str) -> Path:
    """A file of MiB: x is data, a dot a hole."""
    with path.open("wb") as file:
        for number, kind in enumerate(pattern):
            if kind == "x":
                file.seek(number * MIB)
                file.write(os.urandom(16) * (MIB // 16))
        file.truncate(len(pattern) * MIB)
    return path


@pytest.mark.parametrize("pattern", ["x", ".", "..x", "x..", ".x.x.", "xx..xx", "......"])
def test_holes_are_found(pattern: str, tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "disk", pattern)
    with qcow2crypt.open(path, format="raw") as image:
        extents = list(image.extents())
        assert sum(one.length for one in extents) == image.size
        covered = "".join(
            ("x" if one.kind is ExtentKind.DATA else ".") * (one.length // MIB) for one in extents
        )
        # A file system that cannot tell says that all is data, and that is right too.
        assert covered in (pattern, "x" * len(pattern))
        assert all(one.host_offset == int(one.guest_offset) for one in extents)


def test_ranges_of_a_file_with_holes_are_clipped(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "disk", "..x..")
    with qcow2crypt.open(path, format="raw") as image:
        whole = list(image.extents())
        if len(whole) == 1:
            return  # this file system knows no holes
        for start in (
            0,
            5,
            MIB,
            2 * MIB - 3,
            2 * MIB,
            2 * MIB + 700,
            3 * MIB - 1,
            3 * MIB,
            5 * MIB,
        ):
            for length in (0, 1, 600, MIB, image.size - start):
                if start + length > image.size:
                    continue
                found = list(image.extents(start, length))
                assert sum(one.length for one in found) == length
                position = start
                for one in found:
                    assert one.guest_offset == position
                    data = 2 * MIB <= position < 3 * MIB
                    assert (one.kind is ExtentKind.DATA) is data
                    position += one.length


def test_a_hole_at_the_end_inside_a_sector(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(MIB + 100)
    with qcow2crypt.open(path, format="raw") as image:
        assert image.size == MIB + 512
        extents = list(image.extents())
        assert extents[-1].guest_offset + extents[-1].length == image.size
        assert image.pread(5, 4094) == b"xx\0\0\0"


@pytest.mark.parametrize("length", [1, 511, 512, 513, 1000, 4096 + 1, MIB + 100])
def test_a_file_that_ends_inside_a_sector(length: int, tmp_path: Path) -> None:
    """The file system knows a hole behind the last byte; extents are whole sectors all the same."""
    path = tmp_path / "disk"
    path.write_bytes(b"x" * length)
    with qcow2crypt.open(path, format="raw") as image:
        (extent,) = image.extents()
        assert extent.kind is ExtentKind.DATA
        assert extent.length == image.size == -(-length // 512) * 512


def test_qemu_sees_the_same_holes(qemu_img: QemuImg, tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "disk", "..x..xx.")
    theirs = [
        (row["start"], row["length"]) for row in qemu_img.map(Disk(path, "raw")) if row["data"]
    ]
    with qcow2crypt.open(path, format="raw") as image:
        assert ranges(list(image.extents()), ExtentKind.DATA) == theirs


def test_a_raw_image_needs_no_passphrase_and_takes_none_amiss() -> None:
    with qcow2crypt.open(io.BytesIO(b"x" * 512), secret="unused", format="raw") as image:
        assert image.pread(3, 0) == b"xxx"


def test_any_file_is_raw_when_it_is_said_to_be() -> None:
    with qcow2crypt.open(io.BytesIO(b"QFI\xfb" + bytes(508)), format="raw") as image:
        assert image.pread(4, 0) == b"QFI\xfb"


def test_a_closed_image_cannot_be_described() -> None:
    image = raw(b"x" * 512)
    assert image.info().format == "raw"
    image.close()
    with pytest.raises(ArgumentError, match=r"the image is closed"):
        image.info()
