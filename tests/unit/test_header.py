"""The qcow2 header: fields to bytes and back.  What is refused stands in the table of damages."""

from __future__ import annotations

import golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.testing.damage.tiny import FIELDS, put_fields, tiny

V2, V3 = tiny(version=2).data, tiny().data
QCOW2 = [name for name in golden.NAMES if name.endswith(".qcow2")]


def test_every_field_is_read_from_its_place() -> None:
    """Each with a value of its own, so that two that were swapped would show."""
    values = {
        "backing_file_offset": 200,
        "backing_file_size": 11,
        "size": 0x7E00,
        "crypt_method": 1,
        "l1_size": 77,
        "l1_table_offset": 0x10_0000_0200,
        "refcount_table_offset": 0x20_0000_0400,
        "refcount_table_clusters": 13,
        "nb_snapshots": 17,
        "snapshots_offset": 0x30_0000_0600,
        "incompatible_features": 0xB | 1 << 40,
        "compatible_features": 1 << 41,
        "autoclear_features": 1 << 42,
        "refcount_order": 5,
        "header_length": 120,
        "compression_type": 1,
    }
    header = hdr.parse_header(put_fields(V3, values))
    assert {name: getattr(header, name) for name in values} == values
    assert (header.version, header.cluster_bits) == (3, 9)
    assert set(header._fields) == set(FIELDS) - {"magic"}


def test_version_2_has_the_values_that_it_implies() -> None:
    noise = V2[:72] + b"\xff" * 40
    header = hdr.parse_header(noise)
    assert header.version == 2
    assert header.incompatible_features == 0
    assert header.compatible_features == 0
    assert header.autoclear_features == 0
    assert (header.refcount_order, header.refcount_bits) == (4, 16)
    assert header.header_length == 72
    assert header.compression_type == hdr.COMPRESSION_DEFLATE


@pytest.mark.parametrize(("length", "kind"), [(104, 0), (105, 1), (112, 1), (128, 1)])
def test_the_compression_type_counts_only_inside_the_header(length: int, kind: int) -> None:
    fields = {"header_length": length, "compression_type": 1, "incompatible_features": 8 * kind}
    assert hdr.parse_header(put_fields(V3, fields)).compression_type == kind


@pytest.mark.parametrize("bits", range(9, 22))
def test_sizes_that_follow_from_the_cluster_size(bits: int) -> None:
    header = hdr.parse_header(tiny(cluster_bits=bits).data)
    assert header.cluster_size == 2**bits
    assert header.l2_entries == 2**bits // 8
    assert header.l2_coverage == 2 ** (2 * bits - 3)
    if bits >= 14:
        extended = header._replace(incompatible_features=hdr.INCOMPAT_EXTENDED_L2)
        assert extended.extended_l2
        assert extended.l2_entries == 2**bits // 16
        assert extended.l2_coverage == 2 ** (2 * bits - 4)


@pytest.mark.parametrize(
    ("size", "guest"), [(0, 0), (1, 0), (511, 0), (512, 512), (1000, 512), (2048, 2048)]
)
def test_the_guest_sees_whole_sectors(size: int, guest: int) -> None:
    assert hdr.parse_header(put_fields(V3, {"size": size})).guest_size == guest


@pytest.mark.parametrize("name", QCOW2)
def test_packing_gives_back_what_qemu_wrote(name: str) -> None:
    data = golden.load(name).data
    header = hdr.parse_header(data)
    assert hdr.pack_header(header) == data[: header.header_length]


@given(
    st.sampled_from((2, 3)),
    st.integers(9, 21),
    st.integers(0, 2**20),
    st.sampled_from((104, 112, 120, 128)),
    st.integers(0, 2**64 - 1),
)
def test_packing_and_parsing_are_twins(
    version: int, bits: int, sectors: int, length: int, compatible: int
) -> None:
    size = sectors * 512
    header = hdr.Header(
        version=version,
        backing_file_offset=0,
        backing_file_size=0,
        cluster_bits=bits,
        size=size,
        crypt_method=1,
        l1_size=min(2**22, size // 2**15 + 1),
        l1_table_offset=3 << bits,
        refcount_table_offset=1 << bits,
        refcount_table_clusters=1,
        nb_snapshots=0,
        snapshots_offset=0,
        compatible_features=compatible if version == 3 else 0,
        header_length=length if version == 3 else 72,
    )
    packed = hdr.pack_header(header)
    assert len(packed) == header.header_length
    assert hdr.parse_header(packed) == header


def test_a_header_cannot_be_changed() -> None:
    header = hdr.parse_header(V3)
    with pytest.raises(AttributeError):
        header.size = 0  # type: ignore[misc]


def test_a_message_says_what_where_and_what_would_be_right() -> None:
    with pytest.raises(HeaderError) as caught:
        hdr.parse_header(put_fields(V3, {"cluster_bits": 22}))
    error = caught.value
    assert str(error) == (
        "unsupported cluster size: cluster_bits at host offset 0x14 is 22; allowed: 9 to 21"
    )
    assert (error.problem, error.field, error.offset) == (
        "unsupported cluster size",
        "cluster_bits",
        20,
    )
    assert (error.found, error.allowed) == ("22", "9 to 21")


@given(st.binary(max_size=120))
def test_any_bytes_behind_the_magic_are_a_header_or_a_header_error(noise: bytes) -> None:
    for start in (b"QFI\xfb", b"QFI\xfb\0\0\0\x02", b"QFI\xfb\0\0\0\x03", b""):
        try:
            header = hdr.parse_header(start + noise)
        except HeaderError as error:
            assert error.field
        else:
            assert header.guest_size <= header.size
