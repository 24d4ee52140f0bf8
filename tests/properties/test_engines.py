"""All engines do the same thing, and it is AES-CBC with each sector a message of its own.

OpenSSL is the independent witness.  The published vectors are in unit/test_engines_vectors.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.openssl import openssl_or_skip
from support import every_engine

from qcow2crypt.testing import strategies
from qcow2crypt.testing.runs import RUN_LENGTHS, Run, make_run

each_engine = pytest.mark.parametrize("name", every_engine.ENGINES)
each_way = pytest.mark.parametrize("way", ["cbc_encrypt", "cbc_decrypt"])


def go(name: str, way: str, run: Run) -> bytes:
    """``run`` through an engine, from one buffer to another."""
    out = bytearray(len(run.data))
    key = every_engine.engine(name).expand_key(run.key)
    getattr(key, way)(run.ivs, run.data, out, run.sector_size)
    return bytes(out)


@each_way
@given(run=strategies.runs())
@settings(max_examples=60)
def test_every_engine_gives_the_same_bytes(way: str, run: Run) -> None:
    results = {name: go(name, way, run) for name in every_engine.working()}
    assert len(set(results.values())) == 1, sorted(results)


@each_engine
@each_way
@given(run=strategies.runs())
@settings(max_examples=40)
def test_openssl_gives_the_same_bytes(name: str, way: str, run: Run) -> None:
    openssl = openssl_or_skip()
    expected = getattr(openssl, way)(run.key, run.ivs, run.data, run.sector_size)
    assert go(name, way, run) == expected


@each_engine
@pytest.mark.parametrize("key_size", [16, 24, 32])
@pytest.mark.parametrize("count", RUN_LENGTHS)
def test_openssl_gives_the_same_bytes_at_the_edges(name: str, key_size: int, count: int) -> None:
    openssl = openssl_or_skip()
    run = make_run(1, count, key_size=key_size)
    for way in ("cbc_encrypt", "cbc_decrypt"):
        assert go(name, way, run) == getattr(openssl, way)(run.key, run.ivs, run.data)


@pytest.mark.parametrize("name", [name for name in every_engine.ENGINES if name != "reference"])
@pytest.mark.parametrize("count", [1023, 1024, 1025, 2047, 2048, 2049, 4100])
def test_runs_that_are_cut_into_pieces(name: str, count: int) -> None:
    openssl = openssl_or_skip()
    run = make_run(2, count)
    for way in ("cbc_encrypt", "cbc_decrypt"):
        assert go(name, way, run) == getattr(openssl, way)(run.key, run.ivs, run.data)


@each_engine
def test_a_sector_longer_than_a_piece(name: str) -> None:
    openssl = openssl_or_skip()
    run = make_run(3, 2, sector_size=(1 << 16) + 16)
    for way in ("cbc_encrypt", "cbc_decrypt"):
        expected = getattr(openssl, way)(run.key, run.ivs, run.data, run.sector_size)
        assert go(name, way, run) == expected


@each_engine
@given(run=strategies.runs())
@settings(max_examples=30)
def test_decrypt_undoes_encrypt(name: str, run: Run) -> None:
    key = every_engine.engine(name).expand_key(run.key)
    data = bytearray(run.data)
    key.cbc_encrypt(run.ivs, data, data, run.sector_size)
    assert data != run.data or not run.count
    key.cbc_decrypt(run.ivs, data, data, run.sector_size)
    assert data == run.data


@each_engine
@each_way
@given(run=strategies.runs(max_bytes=1 << 14))
@settings(max_examples=30)
def test_a_run_is_its_sectors_one_by_one(name: str, way: str, run: Run) -> None:
    key = every_engine.engine(name).expand_key(run.key)
    single = bytearray(run.data)
    for i in range(run.count):
        sector = memoryview(single)[i * run.sector_size : (i + 1) * run.sector_size]
        getattr(key, way)(run.ivs[16 * i : 16 * i + 16], sector, sector, run.sector_size)
    assert go(name, way, run) == single


@each_engine
@each_way
@given(
    run=strategies.runs(max_bytes=1 << 14),
    shifts=st.tuples(st.integers(0, 17), st.integers(0, 17), st.integers(0, 17)),
    in_place=st.booleans(),
)
@settings(max_examples=40)
def test_buffers_may_lie_anywhere_and_their_surroundings_are_left_alone(
    name: str, way: str, run: Run, shifts: tuple[int, int, int], in_place: bool
) -> None:
    def placed(data: bytes, shift: int) -> tuple[bytearray, memoryview]:
        whole = bytearray(b"\xa5" * shift + data + b"\x5a" * 19)
        return whole, memoryview(whole)[shift : shift + len(data)]

    _, ivs = placed(run.ivs, shifts[0])
    before, src = placed(run.data, shifts[1])
    after, dst = (before, src) if in_place else placed(bytes(len(run.data)), shifts[2])
    untouched = bytes(before)
    key = every_engine.engine(name).expand_key(run.key)
    getattr(key, way)(ivs, src, dst, run.sector_size)
    assert dst == go(name, way, run)
    shift = shifts[1] if in_place else shifts[2]
    assert after[:shift] == b"\xa5" * shift
    assert after[shift + len(run.data) :] == b"\x5a" * 19
    assert ivs == run.ivs
    assert in_place or before == untouched


@each_engine
@given(
    key=strategies.keys(),
    count=st.one_of(st.sampled_from(RUN_LENGTHS), st.integers(0, 300)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_ecb_is_each_block_on_its_own(name: str, key: bytes, count: int, seed: int) -> None:
    data = make_run(seed, count, sector_size=16).data
    out = bytearray(data)
    every_engine.engine(name).expand_key(key).ecb_encrypt(out, out)
    assert out == openssl_or_skip().ecb_encrypt(key, data)


@pytest.mark.parametrize("name", [name for name in every_engine.ENGINES if name != "reference"])
def test_ecb_of_many_blocks(name: str) -> None:
    run = make_run(4, 5000, sector_size=16)
    out = bytearray(len(run.data))
    every_engine.engine(name).expand_key(run.key).ecb_encrypt(run.data, out)
    assert out == openssl_or_skip().ecb_encrypt(run.key, run.data)


@each_engine
def test_threads_may_share_a_key(name: str) -> None:
    # Many lengths, so that whatever is kept for a length is made and dropped all the time.
    engine, secret = every_engine.engine(name), make_run(5, 0).key
    key = engine.expand_key(secret)
    jobs = [make_run(seed, 1 + 7 * seed % 60) for seed in range(24)]
    expected = []
    for job in jobs:
        out = bytearray(len(job.data))
        # By a key of its own: nothing that an earlier run left can be in it.
        engine.expand_key(secret).cbc_encrypt(job.ivs, job.data, out)
        expected.append(out)

    def work(number: int) -> bool:
        job, wanted = jobs[number % len(jobs)], expected[number % len(jobs)]
        buffer = bytearray(job.data)
        key.cbc_encrypt(job.ivs, buffer, buffer)
        right = buffer == wanted
        key.cbc_decrypt(job.ivs, buffer, buffer)
        return right and buffer == job.data

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(4 * len(jobs))))
    finally:
        sys.setswitchinterval(interval)
