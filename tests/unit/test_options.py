"""What a new file may be like."""

from __future__ import annotations

from typing import Any

import golden
import pytest

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.options import Qcow2Options


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
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Qcow2Options(**wrong)
    assert says in str(caught.value)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 32, 64])
def test_what_may_be_but_is_not_written_is_refused_as_that(bits: int) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"refcounts of {bits} bits"):
        Qcow2Options(refcount_bits=bits)


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
