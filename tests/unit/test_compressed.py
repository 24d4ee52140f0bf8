"""From stored bytes to exactly one cluster.  More broken streams stand in the table of damages."""

from __future__ import annotations

import random
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import UnsupportedFeatureError
from qcow2crypt.image.qcow2 import compressed
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE, COMPRESSION_ZSTD


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-12)
    return deflater.compress(data) + deflater.flush()


def zstd(data: bytes) -> bytes:
    module = compressed.zstd_module()
    packed: bytes = module.compress(data)
    return packed


@given(st.integers(0, 2**32), st.sampled_from((512, 4096, 65536)), st.integers(1, 400))
def test_deflate_and_zstd_round_trip(seed: int, size: int, repeat: int) -> None:
    plain = (random.Random(seed).randbytes(-(-size // repeat)) * repeat)[:size]
    assert decompress(deflate(plain) + b"behind", size, COMPRESSION_DEFLATE) == plain
    assert decompress(zstd(plain), size, COMPRESSION_ZSTD) == plain


@given(st.binary(max_size=600), st.sampled_from((COMPRESSION_DEFLATE, COMPRESSION_ZSTD)))
def test_any_bytes_are_a_cluster_or_an_error(data: bytes, kind: int) -> None:
    try:
        plain = decompress(data, 512, kind)
    except DecompressError as error:
        assert str(error)
    else:
        assert len(plain) == 512


@given(st.binary(min_size=1, max_size=4), st.integers(0, 100), st.booleans())
def test_a_damaged_stream_is_a_cluster_or_an_error(change: bytes, at: int, deflated: bool) -> None:
    plain = b"some text, some more text. " * 30
    data = bytearray(deflate(plain[:512]) if deflated else zstd(plain[:512]))
    at %= len(data)
    data[at : at + len(change)] = change
    try:
        found = decompress(bytes(data), 512, 0 if deflated else 1)
    except DecompressError:
        return
    assert len(found) == 512


@pytest.mark.parametrize("kind", [COMPRESSION_DEFLATE, COMPRESSION_ZSTD])
def test_a_bomb_does_not_go_off(kind: int) -> None:
    """64 MiB of zeros in a few bytes: no more than a cluster of it is ever there."""
    bomb = deflate(bytes(64 << 20)) if kind == COMPRESSION_DEFLATE else zstd(bytes(64 << 20))
    tracemalloc.start()
    try:
        if kind == COMPRESSION_DEFLATE:
            assert decompress(bomb, 4096, kind) == bytes(4096)
        else:
            with pytest.raises(DecompressError):
                decompress(bomb, 4096, kind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_without_zstd_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedFeatureError, match=r"zstd-compressed clusters") as caught:
        decompress(b"", 512, COMPRESSION_ZSTD)
    assert name in str(caught.value)
