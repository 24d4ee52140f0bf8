"""The first cluster as a whole: names, extensions, and every reason not to read an image."""

from __future__ import annotations

import io
import struct

import golden
import pytest

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.testing.damage.tiny import extension, put, put_fields, tiny

V3 = tiny()


def structure_of(data: bytes) -> Structure:
    return read_structure(HostFile(io.BytesIO(data)))


def test_a_plain_image_is_readable() -> None:
    structure = structure_of(V3.data)
    assert structure.why_unreadable() == ()
    assert structure.extensions == ()
    assert structure.backing_file is None
    assert structure.data_file is None
    assert structure.feature_names == ()


def test_all_reasons_are_told_at_once() -> None:
    data = tiny(cluster_bits=16).data
    names = struct.pack(">BB46s", 0, 7, b"seven")
    data = put(
        data, 112, extension(ext.EXT_FEATURE_TABLE, names) + extension(ext.EXT_DATA_FILE, b"d")
    )
    data = put_fields(
        data,
        {
            "incompatible_features": 1 << 7 | 1 << 8 | 4 | 16,
            "crypt_method": 2,
            "backing_file_offset": 1000,
            "backing_file_size": 4,
        },
    )
    assert structure_of(put(data, 1000, b"base")).why_unreadable() == (
        "unknown incompatible features: bit 7 'seven', bit 8",
        "LUKS encryption",
    )


@pytest.mark.parametrize(
    ("stored", "size", "name"),
    [
        (b"base.raw", 8, "base.raw"),
        (b"base.raw", 4, "base"),
        (b"base\0raw", 8, "base"),
        ("größe.raw".encode(), 11, "größe.raw"),
        (b"\xff.raw", 5, "\udcff.raw"),
        (b"", 0, None),
        (b"\0\0\0", 3, None),
    ],
)
def test_backing_file_name(stored: bytes, size: int, name: str | None) -> None:
    fields = {"backing_file_offset": 200, "backing_file_size": size}
    assert structure_of(put(put_fields(V3.data, fields), 200, stored)).backing_file == name


def test_the_last_extension_of_a_type_counts() -> None:
    pieces = extension(ext.EXT_BACKING_FORMAT, b"raw") + extension(ext.EXT_BACKING_FORMAT, b"qcow2")
    structure = structure_of(put(V3.data, 112, pieces))
    assert structure.backing_format == "qcow2"
    assert len(structure.extensions) == 2


def test_bitmaps_count_only_with_their_autoclear_bit() -> None:
    pointer = extension(ext.EXT_BITMAPS, struct.pack(">IIQQ", 1, 0, 24, 512))
    data = put(V3.data, 112, pointer)
    assert structure_of(data).bitmaps is None
    current = structure_of(put_fields(data, {"autoclear_features": 1}))
    assert current.bitmaps == ext.BitmapsPointer(1, 24, 512)
    assert current.why_unreadable() == ()


def test_luks_pointer() -> None:
    structure = structure_of(golden.load("luks-aes128cbc-essiv.qcow2").data)
    manifest = golden.load("luks-aes128cbc-essiv.qcow2").manifest
    assert structure.crypto == ext.CryptoPointer(
        manifest["luks_header_offset"], manifest["luks_header_length"]
    )


def test_the_feature_table_of_qemu_is_read() -> None:
    structure = structure_of(golden.load("aes-c64k-v3-prealloc.qcow2").data)
    names = {(row.kind, row.bit): row.name for row in structure.feature_names}
    assert len(names) == 8
    assert names[0, 1] == "corrupt bit"
    assert names[2, 1] == "raw external data"


def test_a_header_that_is_all_there_is() -> None:
    """The rest of the cluster is behind the end of the file: zeros, so no extension."""
    assert structure_of(V3.data[:112]).extensions == ()


def test_an_error_has_the_offset_of_the_extension() -> None:
    pieces = extension(7, b"12345678") + extension(ext.EXT_BACKING_FORMAT, b"x" * 16)
    with pytest.raises(HeaderError) as caught:
        structure_of(put(V3.data, 112, pieces))
    assert caught.value.offset == 112 + 16 + 4
