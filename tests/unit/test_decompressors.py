"""The faster libraries for compressed clusters agree with the standard library, on anything.

Each is skipped where it is not installed; the extra ``test`` brings both.
"""

from __future__ import annotations

import importlib
import random
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.qcow2 import decompressors
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress, zstd_module
from qcow2crypt.image.qcow2.decompressors import (
    Decompressor,
    decompressor,
    many_decompressor,
)
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE, COMPRESSION_ZSTD

LIBRARIES = {COMPRESSION_DEFLATE: "zlib_ng.zlib_ng", COMPRESSION_ZSTD: "zstandard"}
KINDS = tuple(LIBRARIES)
SIZES = (512, 4096, 65536, 1 << 17, 2 << 20)
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


@pytest.fixture(scope="module", params=KINDS, ids=LIBRARIES.get)
def kind(request: pytest.FixtureRequest) -> int:
    kind: int = request.param
    pytest.importorskip(LIBRARIES[kind], reason=f"{LIBRARIES[kind]} is not installed")
    return kind


def packed(plain: bytes, kind: int, seed: int = 0) -> bytes:
    """Compressed in one of many ways; 0 is as QEMU does it."""
    chosen = random.Random(seed)
    if kind == COMPRESSION_ZSTD:
        return bytes(zstd_module().compress(plain, level=chosen.randrange(-5, 8) if seed else 3))
    if not seed:
        deflater = zlib.compressobj(wbits=-12, memLevel=9)
    else:
        bits, memory = chosen.choice((9, 12, 15)), chosen.randrange(1, 10)
        strategy = chosen.choice(STRATEGIES)
        deflater = zlib.compressobj(chosen.randrange(10), zlib.DEFLATED, -bits, memory, strategy)
    return deflater.compress(plain) + deflater.flush()


def text(seed: int, size: int) -> bytes:
    """Something that gets shorter, with repetitions near and far."""
    chosen = random.Random(seed)
    words = [chosen.randbytes(chosen.randrange(1, 40)) for _ in range(chosen.randrange(1, 200))]
    return b" ".join(chosen.choices(words, k=size // 2 + 1))[:size].ljust(size, b".")


def outcome(data: bytes, size: int, kind: int, use: Decompressor | None = None) -> bytes | str:
    """The cluster, or what is wrong."""
    try:
        return decompress(data, size, kind) if use is None else use(memoryview(data))
    except DecompressError as error:
        return str(error)


@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES[:3]))
def test_any_stream_is_the_same_cluster(kind: int, seed: int, size: int) -> None:
    data = packed(text(seed, size), kind, seed) + random.Random(seed).randbytes(seed % 600)
    assert decompressor(size, kind)(data) == text(seed, size)
    assert outcome(data, size, kind) == text(seed, size)


@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from(SIZES[:2]),
    early=st.booleans(),
    bits=st.lists(st.integers(0, 2**16), min_size=1, max_size=4),
    cut=st.integers(0, 2**16) | st.none(),
)
def test_a_damaged_stream_has_the_same_outcome(
    kind: int, seed: int, size: int, early: bool, bits: list[int], cut: int | None
) -> None:
    """The same bytes or the same words; most is checked at the head, where the trees are."""
    data = bytearray(packed(text(seed, size), kind, seed))
    for bit in bits:
        at = bit % (8 * min(len(data), 60 if early else len(data)))
        data[at // 8] ^= 1 << at % 8
    damaged = bytes(data[: None if cut is None else cut % len(data)])
    use = decompressor(size, kind)
    assert outcome(damaged, size, kind, use) == outcome(damaged, size, kind)
    good = packed(text(seed, size), kind)
    assert use(good) == text(seed, size)  # and it is not the worse for it


@given(data=st.binary(max_size=600))
def test_any_bytes_have_the_same_outcome(kind: int, data: bytes) -> None:
    assert outcome(data, 512, kind, decompressor(512, kind)) == outcome(data, 512, kind)


@pytest.mark.parametrize("size", SIZES)
def test_what_qemu_writes_does_not_need_the_slow_twin(
    kind: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(decompressors, "decompress")
    plain = text(size, size)
    assert decompressor(size, kind)(packed(plain, kind) + b"behind") == plain


@pytest.mark.parametrize("off", [-1, 1, 300])
def test_a_stream_of_another_size(kind: int, off: int) -> None:
    data = packed(text(1, 4096 + off), kind)
    assert outcome(data, 4096, kind, decompressor(4096, kind)) == outcome(data, 4096, kind)


def test_a_bomb_does_not_go_off(kind: int) -> None:
    """64 MiB of zeros in a few bytes: no more than a cluster of it is ever there."""
    bomb = packed(bytes(64 << 20), kind)
    use = decompressor(4096, kind)
    tracemalloc.start()
    try:
        assert outcome(bomb, 4096, kind, use) == outcome(bomb, 4096, kind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_without_the_library_the_standard_library_does_it(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = LIBRARIES[kind]
    data = packed(text(3, 4096), kind)
    module = importlib.import_module(name)
    monkeypatch.setattr(module, "decompressobj", None, raising=False)
    monkeypatch.setattr(module, "ZstdDecompressor", None, raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    assert decompressor(4096, kind)(data) == text(3, 4096)
    assert many_decompressor(4096, kind) is None


def side_by_side(parts: list[bytes], seed: int) -> tuple[memoryview, list[tuple[int, int]]]:
    """Stored clusters in a buffer, with this and that between them; where each lies."""
    chosen = random.Random(seed)
    data, places = bytearray(), []
    for part in parts:
        data += chosen.randbytes(chosen.randrange(3))
        behind = chosen.randrange(600)
        places.append((len(data), len(data) + len(part) + behind))
        data += part
    return memoryview(bytes(data) + bytes(600)), places


@pytest.fixture(scope="module")
def zstandard() -> int:
    pytest.importorskip("zstandard", reason="zstandard is not installed")
    return COMPRESSION_ZSTD


@given(
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=9),
    size=st.sampled_from(SIZES[:3]),
)
def test_many_at_once_are_the_same_clusters(zstandard: int, seeds: list[int], size: int) -> None:
    data, places = side_by_side([packed(text(n, size), zstandard, n) for n in seeds], seeds[0])
    many = many_decompressor(size, zstandard)
    assert many is not None
    found = many(data, places)
    if found is not None:  # which frames are usual is for the library to know
        assert [bytes(one) for one in found] == [text(seed, size) for seed in seeds]
    usual = [packed(text(seed, size), zstandard) for seed in seeds]
    found = many(*side_by_side(usual, seeds[0]))
    assert found is not None
    assert [bytes(one) for one in found] == [text(seed, size) for seed in seeds]


@given(
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=5),
    bits=st.lists(st.integers(0, 2**20), min_size=1, max_size=4),
)
def test_many_at_once_damaged(zstandard: int, seeds: list[int], bits: list[int]) -> None:
    """All the same bytes, or nothing: then each is looked at alone."""
    parts = [bytearray(packed(text(seed, 4096), zstandard)) for seed in seeds]
    for bit in bits:
        part = parts[bit % len(parts)]
        part[bit // 8 % len(part)] ^= 1 << bit % 8
    data, places = side_by_side([bytes(part) for part in parts], bits[0])
    many = many_decompressor(4096, zstandard)
    assert many is not None
    found = many(data, places)
    alone = [outcome(data[start:end].tobytes(), 4096, zstandard) for start, end in places]
    assert found is None or [bytes(one) for one in found] == alone


@pytest.mark.parametrize("place", [(-1, 50), (0, 51), (50, 51), (2**64 - 1, 2**64 + 1), (9, 9)])
def test_places_that_are_not_in_the_buffer(zstandard: int, place: tuple[int, int]) -> None:
    stored = packed(bytes(4096), zstandard).ljust(50, b"-")
    many = many_decompressor(4096, zstandard)
    assert many is not None
    assert many(memoryview(stored), [(0, 50)]) is not None
    assert many(memoryview(stored), [(0, 50), place]) is None


def test_deflate_has_nothing_for_many() -> None:
    assert many_decompressor(4096, COMPRESSION_DEFLATE) is None
