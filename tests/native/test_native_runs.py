"""Every kernel at every edge: run lengths, sector sizes, alignments, walls around the buffers.

Sectors do not know of each other, so what OpenSSL says of a long run holds for its beginnings.
"""

from __future__ import annotations

import functools
import mmap
import struct

import pytest
from oracles.openssl import openssl_or_skip
from support import every_engine
from support.guarded import Guarded

from qcow2crypt import SectorCipher
from qcow2crypt.testing.runs import Run, make_run
from qcow2crypt.units import SECTOR_NUMBER_MAX

pytest.importorskip("qcow2crypt._native", reason="no kernel was tested: none is compiled in")

MOST = 300  # sectors: over four times the widest group
SIZES = range(16, 4096 + 16, 16)
# One less and one more than each group of sectors that some kernel works on at once.
COUNTS = tuple(range(1, 6)) + tuple(
    group + more for group in (8, 12, 16, 24, 32, 48, 64) for more in (-1, 0, 1)
)

# Around the lengths from which kernels go another way through memory: 1024 and 4097 sectors from
# one buffer to another, 2048 and 8193 in place.
WIDE = (1023, 1024, 1025, 1029, 1087, 1088, 2047, 2048, 2049, 4096, 4097, 4129, 8192, 8193, 8197)

each_kernel = pytest.mark.parametrize("name", every_engine.KERNELS)
each_way = pytest.mark.parametrize("way", ["cbc_encrypt", "cbc_decrypt"])
each_key_size = pytest.mark.parametrize("key_size", [16, 24, 32])


@functools.lru_cache(maxsize=1024)
def known(way: str, count: int, key_size: int, sector_size: int = 512) -> tuple[Run, bytes]:
    """A run and what OpenSSL makes of it."""
    run = make_run(11, count, key_size=key_size, sector_size=sector_size)
    return run, getattr(openssl_or_skip(), way)(run.key, run.ivs, run.data, run.sector_size)


@each_kernel
@each_way
@each_key_size
def test_every_run_length(name: str, way: str, key_size: int) -> None:
    run, expected = known(way, MOST, key_size)
    work = getattr(every_engine.engine(name).expand_key(run.key), way)
    wrong = []
    for count in range(MOST + 1):
        ivs, data = run.ivs[: 16 * count], run.data[: 512 * count]
        out = bytearray(b"\xa5" * (len(data) + 64))
        work(ivs, data, memoryview(out)[: len(data)])
        in_place = bytearray(data)
        work(ivs, in_place, in_place)
        right = out[: len(data)] == expected[: len(data)] and out[len(data) :] == b"\xa5" * 64
        if not right or in_place != expected[: len(data)]:
            wrong.append(count)
    assert not wrong


@each_kernel
@each_way
@each_key_size
@pytest.mark.parametrize("shift", [0, 16, 21], ids=["aligned", "between lines", "odd"])
def test_runs_that_the_second_cache_does_not_hold(
    name: str, way: str, key_size: int, shift: int
) -> None:
    """Also those that the third cache does not hold."""
    run, expected = known(way, WIDE[-1], key_size)
    work = getattr(every_engine.engine(name).expand_key(run.key), way)
    src = memoryview(bytearray(shift // 3) + run.data)[shift // 3 :]
    wrong = []
    for count in WIDE:
        end = shift + 512 * count
        out = bytearray(b"\xa5" * (end + 64))
        work(run.ivs[: 16 * count], src[: 512 * count], memoryview(out)[shift:end])
        right = out[shift:end] == expected[: 512 * count]
        out[shift:end] = src[: 512 * count]
        work(run.ivs[: 16 * count], memoryview(out)[shift:end], memoryview(out)[shift:end])
        right_in_place = out[shift:end] == expected[: 512 * count]
        margins = out[:shift] + out[end:]
        if not right or not right_in_place or margins.strip(b"\xa5"):
            wrong.append(count)
    assert not wrong


@each_kernel
@each_way
def test_every_sector_size(name: str, way: str) -> None:
    wrong = []
    for size in SIZES:
        run, expected = known(way, 49, 16, size)
        work = getattr(every_engine.engine(name).expand_key(run.key), way)
        for count in (1, 3, 8, 13, 33, 49):
            out = bytearray(count * size)
            work(run.ivs[: 16 * count], run.data[: count * size], out, size)
            if out != expected[: count * size]:
                wrong.append((size, count))
    assert not wrong


@each_kernel
@each_way
def test_odd_alignments(name: str, way: str) -> None:
    run, expected = known(way, 53, 32)
    work = getattr(every_engine.engine(name).expand_key(run.key), way)

    def moved(data: bytes, shift: int) -> memoryview:
        return memoryview(bytearray(shift) + data)[shift:]

    wrong = []
    for shift in (*range(18), 31, 33, 47, 63, 65):
        # Primes, so that every buffer gets to see every alignment and no two move together.
        ivs, src = moved(run.ivs, shift), moved(run.data, 3 * shift % 67)
        dst = moved(bytes(len(run.data)), 7 * shift % 71)
        work(ivs, src, dst)
        work(ivs, src, src)
        if dst != expected or src != expected:
            wrong.append(shift)
    assert not wrong


@pytest.mark.parametrize("shift", [0, 16], ids=["aligned", "between lines"])
@each_kernel
@each_way
def test_a_run_that_no_cache_holds(name: str, way: str, shift: int) -> None:
    """Long runs are stored past the caches where that can be; short ones never are."""
    count, few = (33 << 11) + 5, 1000
    ivs = b"".join(struct.pack("<QQ", number, 0) for number in range(count))
    src, dst = mmap.mmap(-1, 512 * count), mmap.mmap(-1, 512 * count + 64)
    block = bytes(range(251)) * 512
    for at in range(0, len(src), len(block)):
        src[at : at + len(block)] = block[: len(src) - at]
    work = getattr(every_engine.engine(name).expand_key(bytes(16)), way)
    expected = bytearray(len(src))
    with memoryview(expected) as view:
        for first in range(0, count, few):
            part = slice(512 * first, 512 * (first + few))
            work(ivs[16 * first : 16 * (first + few)], src[part], view[part])
    with memoryview(dst) as whole, whole[shift : shift + len(src)] as out:
        work(ivs, src, out)
        assert out == expected
    work(ivs, src, src)
    assert src[:] == expected


@each_kernel
@each_way
@each_key_size
@pytest.mark.parametrize("at_end", [True, False], ids=["wall behind", "wall before"])
def test_no_byte_outside_the_buffers_is_touched(
    name: str, way: str, key_size: int, at_end: bool
) -> None:
    for sector_size in (16, 48, 512, 528):
        for count in COUNTS:
            run, expected = known(way, count, key_size, sector_size)
            work = getattr(every_engine.engine(name).expand_key(run.key), way)
            ivs, src = Guarded(run.ivs, at_end=at_end), Guarded(run.data, at_end=at_end)
            dst = Guarded(bytes(len(run.data)), at_end=at_end)
            work(ivs.view, src.view, dst.view, sector_size)
            assert dst.view == expected, (sector_size, count)
            assert src.view == run.data, (sector_size, count)
            work(ivs.view, src.view, src.view, sector_size)
            assert src.view == expected, (sector_size, count)


@each_kernel
@each_way
@pytest.mark.parametrize("at_end", [True, False], ids=["wall behind", "wall before"])
def test_no_byte_outside_the_buffers_of_a_wide_run_is_touched(
    name: str, way: str, at_end: bool
) -> None:
    for count in range(1024, 1030):
        run, expected = known(way, count, 32)
        work = getattr(every_engine.engine(name).expand_key(run.key), way)
        ivs, src = Guarded(run.ivs, at_end=at_end), Guarded(run.data, at_end=at_end)
        dst = Guarded(bytes(len(run.data)), at_end=at_end)
        work(ivs.view, src.view, dst.view, 512)
        assert dst.view == expected, count


@each_kernel
@pytest.mark.parametrize("at_end", [True, False], ids=["wall behind", "wall before"])
def test_no_byte_outside_the_buffers_is_touched_by_ecb(name: str, at_end: bool) -> None:
    openssl = openssl_or_skip()
    for count in range(1, 70):
        run = make_run(12, count, key_size=32, sector_size=16)
        key = every_engine.engine(name).expand_key(run.key)
        src, dst = Guarded(run.data, at_end=at_end), Guarded(bytes(16 * count), at_end=at_end)
        key.ecb_encrypt(src.view, dst.view)
        assert dst.view == openssl.ecb_encrypt(run.key, run.data), count


@each_kernel
@pytest.mark.parametrize(
    "first", [0, 2**32 - 150, 2**32, 2**63 - 150, SECTOR_NUMBER_MAX - (MOST - 1)]
)
def test_sector_numbers(name: str, first: int) -> None:
    every_engine.engine(name)
    run = make_run(13, MOST)
    numbers = range(first, first + MOST)
    assert numbers[-1] <= SECTOR_NUMBER_MAX
    ivs = b"".join(struct.pack("<QQ", number, 0) for number in numbers)
    expected = openssl_or_skip().cbc_encrypt(run.key, ivs, run.data, 512)
    cipher = SectorCipher(run.key, engine=name)
    assert cipher.encrypt(run.data, first) == expected
    assert cipher.decrypt(expected, first) == run.data
    last = cipher.encrypt(run.data[-512:], numbers[-1])
    assert last == expected[-512:]
