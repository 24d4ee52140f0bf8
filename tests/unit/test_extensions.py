"""Header extensions: taken apart and put together."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.testing.damage.tiny import extension


def one(kind: int, data: bytes) -> ext.Extension:
    return ext.Extension(kind, 112, data)


def test_an_extension_knows_where_its_parts_are() -> None:
    found = ext.Extension(ext.EXT_BITMAPS, 112, b"abc")
    assert (found.offset, found.length_offset, found.data_offset) == (112, 116, 120)
    assert found.name == "bitmaps"
    assert ext.Extension(7, 0, b"").name == "unknown"


def test_splitting_keeps_order_offsets_and_unknown_types() -> None:
    area = bytes(112) + extension(7, b"12345") + extension(8, b"") + extension(7, b"x" * 8)
    found = ext.split_extensions(area + bytes(300), 112, 512)
    assert [(piece.type, piece.offset, piece.data) for piece in found] == [
        (7, 112, b"12345"),
        (8, 128, b""),
        (7, 136, b"x" * 8),
    ]


@pytest.mark.parametrize("end", [100, 112])
def test_no_room_is_no_extension(end: int) -> None:
    assert ext.split_extensions(bytes(200), 112, end) == ()


def test_the_area_ends_where_it_is_said_to() -> None:
    area = bytes(8) + extension(7, b"1234") + extension(8, b"5678")
    assert [piece.type for piece in ext.split_extensions(area, 8, 24)] == [7]
    with pytest.raises(HeaderError, match=r"header extension too large: length of header ext"):
        ext.split_extensions(area, 8, 19)
    with pytest.raises(HeaderError, match=r"is 4 bytes before the end of the header area"):
        ext.split_extensions(area, 8, 28)


@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), st.binary(max_size=40)), max_size=6))
def test_packing_and_splitting_are_twins(pieces: list[tuple[int, bytes]]) -> None:
    packed = b"".join(ext.pack_extension(kind, data) for kind, data in pieces)
    assert len(packed) % 8 == 0
    found = ext.split_extensions(packed + bytes(8), 0, len(packed) + 8)
    assert [(piece.type, piece.data) for piece in found] == pieces
    assert ext.split_extensions(packed, 0, len(packed)) == found


@given(st.binary(max_size=200), st.integers(0, 16))
def test_any_bytes_are_extensions_or_a_header_error(area: bytes, start: int) -> None:
    try:
        found = ext.split_extensions(area, start, len(area))
    except HeaderError as error:
        assert error.offset is not None
        assert start <= error.offset < len(area)
    else:
        assert sum(8 + len(piece.data) for piece in found) <= len(area)


def test_the_feature_table() -> None:
    names = (ext.FeatureName(0, 5, "five"), ext.FeatureName(2, 63, "x" * 46))
    packed = ext.pack_feature_table(names)
    assert len(packed) == 96
    assert ext.parse_feature_table(one(ext.EXT_FEATURE_TABLE, packed)) == names
    assert ext.parse_feature_table(one(ext.EXT_FEATURE_TABLE, packed[:-1])) == names[:1]
    assert ext.parse_feature_table(one(ext.EXT_FEATURE_TABLE, b"")) == ()


def test_a_feature_name_that_is_no_text_can_be_printed() -> None:
    data = bytes((0, 9)) + b"\xff\x80name".ljust(46, b"\0")
    (row,) = ext.parse_feature_table(one(ext.EXT_FEATURE_TABLE, data))
    assert row.name == "\\xff\\x80name"


@pytest.mark.parametrize(("data", "name"), [(b"", ""), (b"raw", "raw"), (b"q" * 15, "q" * 15)])
def test_backing_format(data: bytes, name: str) -> None:
    assert ext.parse_backing_format(one(ext.EXT_BACKING_FORMAT, data)) == name


def test_a_backing_format_that_is_no_text_can_be_printed() -> None:
    assert ext.parse_backing_format(one(ext.EXT_BACKING_FORMAT, b"\xff")) == "\\xff"


def test_bitmaps_pointer() -> None:
    data = struct.pack(">IIQQ", 2, 0, 48, 0x20000)
    pointer = ext.parse_bitmaps(one(ext.EXT_BITMAPS, data), 0x10000)
    assert pointer == ext.BitmapsPointer(nb_bitmaps=2, directory_size=48, directory_offset=0x20000)


def test_crypto_pointer() -> None:
    data = struct.pack(">QQ", 0x40000, 0x1F9000)
    pointer = ext.parse_crypto_pointer(one(ext.EXT_CRYPTO_HEADER, data), 0x10000)
    assert pointer == ext.CryptoPointer(offset=0x40000, length=0x1F9000)
    with pytest.raises(HeaderError, match=r"allowed: a multiple of 0x80000"):
        ext.parse_crypto_pointer(one(ext.EXT_CRYPTO_HEADER, data), 0x80000)
