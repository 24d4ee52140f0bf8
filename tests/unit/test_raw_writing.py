"""Raw images opened with mode r+."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import ArgumentError, ReadOnlyError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.raw import RawImage

SIZE = 8192
MAGIC = b"QFI\xfb\0\0\0\3"


def editable(data: bytes, *, probed: bool = False) -> tuple[io.BytesIO, RawImage]:
    file = io.BytesIO(data)
    return file, RawImage(HostFile(file, writable=True), probed=probed)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["pwrite", "zeroes", "unmap"]),
        st.integers(0, SIZE),
        st.integers(0, 3000),
        st.integers(1, 255),
    ),
    max_size=12,
)


@given(REQUESTS)
def test_writes_are_what_a_bytearray_does(requests: list[tuple[str, int, int, int]]) -> None:
    file, image = editable(b"\x11" * SIZE)
    model = bytearray(b"\x11" * SIZE)
    for kind, offset, wanted, byte in requests:
        length = min(wanted, SIZE - offset)
        if kind == "pwrite":
            assert image.pwrite(bytes([byte]) * length, offset) == length
            model[offset : offset + length] = bytes([byte]) * length
        else:
            image.write_zeroes(offset, length, unmap=kind == "unmap")
            model[offset : offset + length] = bytes(length)
    image.flush()
    assert file.getvalue() == model
    assert image.readall() == model


def test_the_cursor(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with qcow2crypt.open(path, mode="r+", format="raw") as image:
        assert image.writable()
        image.seek(100)
        assert image.write(b"abc") == 3
        assert image.tell() == 103
        image.discard(4096, 4096)
    assert path.read_bytes() == (bytes(100) + b"abc").ljust(SIZE, b"\0")


def test_discard_makes_holes_that_read_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * (1 << 20))
    with qcow2crypt.open(path, mode="r+", format="raw") as image:
        image.write_zeroes(0, 1 << 19, unmap=True)
        assert image.pread(1 << 19, 0) == bytes(1 << 19)
        assert image.pread(1, 1 << 19) == b"x"


def test_the_size_changes_by_whole_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    with qcow2crypt.open(path, mode="r+", format="raw") as image:
        assert image.size == 1024
        image.pwrite(b"y" * 24, 1000)
        assert image.truncate(2000) == image.size == 2048
        assert image.truncate(512) == 512
        with pytest.raises(ArgumentError):
            image.truncate(-1)
    assert path.read_bytes() == b"x" * 512


def test_what_lies_outside_is_refused() -> None:
    _, image = editable(bytes(SIZE))
    for offset, length in ((SIZE - 1, 2), (-1, 1), (SIZE + 1, 0)):
        with pytest.raises(ArgumentError):
            image.pwrite(bytes(length), offset)
        with pytest.raises(ArgumentError):
            image.write_zeroes(offset, length)
    with pytest.raises(ArgumentError):
        image.discard(0, -1)


def test_a_raw_image_that_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with qcow2crypt.open(path) as image:
        assert not image.writable()
        image.flush()
        for write in (
            lambda: image.pwrite(b"x", 0),
            lambda: image.write(b"x"),
            lambda: image.write_zeroes(0, 1),
            lambda: image.discard(0, 1),
            lambda: image.truncate(0),
        ):
            with pytest.raises(ReadOnlyError):
                write()


@pytest.mark.parametrize("at", [0, 3])
def test_a_probed_image_may_not_come_to_look_like_another_format(at: int) -> None:
    """QEMU refuses the same: the next program would follow the guest's own header."""
    file, image = editable(MAGIC[:at].ljust(SIZE, b"\0"), probed=True)
    with pytest.raises(ReadOnlyError, match=r"would look like a qcow2 image .*-f raw"):
        image.pwrite(MAGIC[at:], at)
    assert file.getvalue() == MAGIC[:at].ljust(SIZE, b"\0")
    image.pwrite(MAGIC, 512)
    image.pwrite(b"anything else", 0)
    _, said = editable(bytes(SIZE))
    said.pwrite(MAGIC, 0)
