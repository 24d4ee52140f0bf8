"""What a new file may be like."""

from __future__ import annotations

import copy
from typing import Any

import golden
import pytest

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2.fresh.header import Places, fresh_header
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.rawoptions import RawOptions

_BACKED = {"backing_file": "b", "backing_format": "raw"}
_AES_V2 = {"version": 2, "encryption": "aes"}


def test_the_defaults_are_those_of_qemu_img() -> None:
    options = Qcow2Options()
    assert (options.version, options.cluster_size, options.refcount_bits) == (3, 65536, 16)
    assert options.encryption is None
    assert not options.lazy_refcounts
    assert options.compression_type == "zlib"


@pytest.mark.parametrize("bits", range(9, 22))
def test_cluster_sizes(bits: int) -> None:
    assert Qcow2Options(cluster_size=1 << bits).cluster_bits == bits


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"version": 1}, "2 or 3, not 1"),
        ({"version": 4}, "2 or 3, not 4"),
        ({"version": "3"}, "2 or 3, not 3"),
        ({"encryption": "luks"}, "None or 'aes', not 'luks'"),
        ({"encryption": ""}, "None or 'aes', not ''"),
        ({"encryption": True}, "None or 'aes', not True"),
        ({"cluster_size": 0}, "power of two from 512 to 2097152, not 0"),
        ({"cluster_size": 256}, "power of two"),
        ({"cluster_size": 1000}, "power of two"),
        ({"cluster_size": 4 << 20}, "power of two"),
        ({"cluster_size": -512}, "power of two"),
        ({"compression_type": "lzma"}, "'zlib' or 'zstd', not 'lzma'"),
        ({"version": 2, "lazy_refcounts": True}, "need version 3"),
        ({"version": 2, "compression_type": "zstd"}, "need version 3"),
        ({"version": 2, "refcount_bits": 8}, "other than 16 need version 3"),
        ({"refcount_bits": 0}, "power of two from 1 to 64, not 0"),
        ({"refcount_bits": 3}, "power of two from 1 to 64"),
        ({"refcount_bits": 128}, "power of two from 1 to 64"),
        ({"version": 2, "extended_l2": True}, "extended L2 tables need version 3"),
        ({"version": 2, "data_file": "d"}, "external data files need version 3"),
        ({"extended_l2": True, "cluster_size": 8192}, "16384 bytes or more, not 8192"),
        ({"preallocation": "some"}, "one of off, metadata, falloc, full, not 'some'"),
        ({"preallocation": "full", **_BACKED}, "needs extended L2 tables"),
        ({"preallocation": "metadata", **_AES_V2}, "ask for that with preallocation=full"),
        ({"preallocation": "falloc", **_AES_V2}, "ask for that with preallocation=full"),
        ({"backing_format": "raw"}, "but no backing file"),
        ({"backing_file": ""}, "the backing file has 1 to 1023 bytes, not 0"),
        ({"backing_file": "b" * 1024}, "1 to 1023 bytes, not 1024"),
        ({"backing_file": "b", "backing_format": ""}, "1 to 15 bytes, not 0"),
        ({"backing_file": "b", "backing_format": "f" * 16}, "1 to 15 bytes, not 16"),
        ({"backing_file": "\ud83d"}, "characters that cannot be stored"),
        ({"data_file": "d" * 1024}, "the data file has 1 to 1023 bytes, not 1024"),
        ({"data_file_raw": True}, "data_file_raw needs a data_file"),
        ({"data_file": "d", "data_file_raw": True, **_BACKED}, "exclude each other"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Qcow2Options(**wrong)
    assert says in str(caught.value)


@pytest.mark.parametrize("order", range(7))
def test_refcount_widths(order: int) -> None:
    assert Qcow2Options(refcount_bits=1 << order).refcount_order == order


def test_what_gives_every_cluster_its_place() -> None:
    assert not Qcow2Options().preallocates
    assert Qcow2Options(preallocation="metadata").preallocates
    assert Qcow2Options(data_file="d", data_file_raw=True).preallocates
    assert not Qcow2Options(data_file="d").preallocates


def test_raw_options() -> None:
    assert RawOptions().preallocation == "off"
    with pytest.raises(ArgumentError, match="one of off, falloc, full, not 'metadata'"):
        RawOptions(preallocation="metadata")  # type: ignore[arg-type]


def test_a_changed_copy_is_checked_as_well() -> None:
    options = Qcow2Options(encryption="aes")
    assert options._replace(version=2) == Qcow2Options(version=2, encryption="aes")
    assert copy.deepcopy(options) == options
    for wrong in ({"cluster_size": 3}, {"version": 2, "refcount_bits": 1}):
        with pytest.raises(ArgumentError):
            options._replace(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        RawOptions()._replace(preallocation="metadata")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [Qcow2Options(), RawOptions()], ids=str)
def test_options_cannot_be_changed(options: Qcow2Options | RawOptions) -> None:
    with pytest.raises(AttributeError):
        options.preallocation = "full"  # type: ignore[misc]
    assert not hasattr(options, "__dict__")
    assert repr(options).startswith(type(options).__name__)


@pytest.mark.parametrize(
    ("name", "version", "cluster_size"),
    [("aes-c4k-v2.qcow2", 2, 4096), ("aes-c512-v3.qcow2", 3, 512), ("q160-aes-c512.qcow2", 2, 512)],
)
def test_the_options_of_an_image(name: str, version: int, cluster_size: int) -> None:
    options = Qcow2Options.like(parse_header(golden.load(name).data))
    assert (options.version, options.cluster_size) == (version, cluster_size)
    assert options.encryption == "aes"
    assert options.compression_type == "zlib"


def test_the_options_of_a_zstd_image() -> None:
    options = Qcow2Options.like(parse_header(golden.load("zstd-c4k.qcow2").data))
    assert options == Qcow2Options(cluster_size=4096, compression_type="zstd")


def test_the_options_of_an_image_with_other_files() -> None:
    wanted = Qcow2Options(
        cluster_size=16384,
        refcount_bits=8,
        extended_l2=True,
        lazy_refcounts=True,
        data_file="d",
        data_file_raw=True,
    )
    header = parse_header(fresh_header(wanted, 1 << 20, Places(1, 1 << 16, 1 << 14, 1)))
    assert Qcow2Options.like(header, data_file="d") == wanted
    assert not Qcow2Options.like(header).data_file_raw
