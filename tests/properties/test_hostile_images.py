"""Hostile input is ordinary input: real images, changed anywhere, are read or refused.

Whatever the bytes are, only our own errors come out, with field and offset where it is the format
that is broken; nothing hangs, and no small file makes us take much memory.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import golden
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.differential import EXHAUSTIVE
from support.hostile import MIB, describe, exercise, exercise_check, exercise_writing, guard, read

from qcow2crypt.testing.damage.hostile import WHOLE
from qcow2crypt.testing.damage.rows_qcow1 import WHOLE as QCOW1
from qcow2crypt.testing.damage.tiny import FIELDS, tiny

PEAK = 48 * MIB

# Small ones, and between them every kind of cluster; the large ones are nearly all zeros.
SEEDS = {
    name: golden.load(name).data for name in golden.NAMES if name[:5] not in ("aes-c", "stand")
}
SEEDS |= {
    name: golden.load(name).data
    for name in (
        "aes-c4k-compressed.qcow2",
        "aes-c4k-v2.qcow2",
        "aes-c512-snapshot.qcow2",
        "aes-c512-zero.qcow2",
        "aes-c512-overlay.qcow2",
        "aes-c64k-v3-extl2.qcow2",
    )
}
SEEDS |= {f"tiny, {1 << bits}": tiny(cluster_bits=bits).data for bits in (9, 12, 16)}
SEEDS["tiny, version 1"] = QCOW1.data
SEEDS["with a snapshot and a bitmap"] = WHOLE

# Numbers that stand at some limit.
_BITS = (0, 1, 8, 9, 12, 16, 21, 22, 31, 32, 55, 56, 61, 62, 63)
EDGES = (
    *(number for bit in _BITS for number in ((1 << bit) - 1, 1 << bit, (1 << bit) + 1)),
    *(2**64 - 1, 2**64 - 512, 2**63 - 512),
)


Change = Callable[[bytearray], None]


def set_field(field: str, number: int) -> Change:
    start, length = FIELDS[field]
    return put_at(start, (number % (1 << 8 * length)).to_bytes(length, "big"))


def put_at(at: int, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        data[at : at + len(new)] = new

    return change


def insert_at(at: int, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        data[at:at] = new

    return change


def flip_at(at: int, bit: int) -> Change:
    def change(data: bytearray) -> None:
        if data:
            data[at % len(data)] ^= 1 << bit

    return change


def cut_at(at: int) -> Change:
    def change(data: bytearray) -> None:
        del data[at:]

    return change


def changes(size: int) -> st.SearchStrategy[list[Change]]:
    """A few changes to an image of ``size`` bytes, more of them where header and tables are."""
    places = st.one_of(
        *(st.integers(0, min(size, limit) - 1) for limit in (128, 512, 1 << 13, size))
    )
    numbers = st.sampled_from(EDGES) | st.integers(0, 2**16)
    entries = numbers | st.integers(0, 40).map(lambda n: n << 9)
    new = st.binary(min_size=1, max_size=16)
    return st.lists(
        st.one_of(
            st.builds(set_field, st.sampled_from(sorted(FIELDS)), numbers),
            st.builds(set_field, st.sampled_from(sorted(FIELDS)), numbers),
            st.builds(
                lambda at, number: put_at(at - at % 8, number.to_bytes(8, "big")), places, entries
            ),
            st.builds(flip_at, places, st.integers(0, 7)),
            st.builds(put_at, places, new),
            st.builds(insert_at, places, new),
            st.builds(cut_at, places),
        ),
        min_size=1,
        max_size=6,
    )


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
def test_changed_images(name: str, data: st.DataObject) -> None:
    changed = bytearray(SEEDS[name])
    for change in data.draw(changes(len(changed))):
        change(changed)
    exercise(bytes(changed))


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=2000 if EXHAUSTIVE else 15)
@given(data=st.data())
def test_changed_images_that_are_checked_and_written(name: str, data: st.DataObject) -> None:
    changed = bytearray(SEEDS[name])
    for change in data.draw(changes(len(changed))):
        change(changed)
    exercise_check(bytes(changed))
    exercise_writing(bytes(changed))


@given(st.sampled_from((2, 3)), st.binary(max_size=2000))
@example(version=3, noise=b"\xff" * 2000)
@example(version=2, noise=b"\xff" * 2000)
@example(version=3, noise=bytes(2000))
def test_garbage_behind_the_magic(version: int, noise: bytes) -> None:
    exercise(b"QFI\xfb" + version.to_bytes(4, "big") + noise)


@given(st.data())
def test_garbage_behind_a_header_that_is_right(data: st.DataObject) -> None:
    """Tables of nonsense."""
    body = tiny(cluster_bits=data.draw(st.sampled_from((9, 12, 16))))
    noise = random.Random(data.draw(st.integers(0, 2**32))).randbytes(4 * body.cluster_size)
    exercise(body.data[: body.l1] + noise)


@pytest.mark.parametrize(
    "start", [b"QFI\xfb\0\0\0\x01", b"LUKS\xba\xbe\0\x01", b"QED\0", b"vhdxfile"]
)
@given(noise=st.binary(max_size=700))
def test_garbage_behind_other_magics(start: bytes, noise: bytes) -> None:
    guard(lambda: describe(start + noise, None))
    guard(lambda: read(start + noise, None))


@pytest.mark.parametrize("name", SEEDS)
def test_cut_images(name: str) -> None:
    """At every length up to the end of the header, then at some."""
    data = SEEDS[name]
    steps = {*range(130), *range(130, min(len(data), 40_000), 509), len(data) - 1}
    for length in sorted(steps):
        exercise(data[:length])


HUGE = {
    "l1_size": {"l1_size": 2**22, "size": 2**61, "cluster_bits": 21},
    "size": {"l1_size": 2**22, "size": 2**37},
    "nb_snapshots": {"nb_snapshots": 65536},
    "refcount table": {"refcount_table_clusters": 2**14},
    "cluster size": {"cluster_bits": 21, "l1_table_offset": 0, "refcount_table_offset": 0},
}


@pytest.mark.parametrize("name", HUGE)
def test_a_small_file_that_claims_much_costs_little_memory(name: str) -> None:
    data = bytearray(tiny().data)
    for field, number in HUGE[name].items():
        start, length = FIELDS[field]
        data[start : start + length] = number.to_bytes(length, "big")
    assert peak_of(bytes(data)) < PEAK


@pytest.mark.parametrize("name", SEEDS)
def test_memory_is_bounded(name: str) -> None:
    """For some changed images each: the most memory that reading them takes."""
    choose = random.Random(name)
    for _ in range(4):
        data = bytearray(SEEDS[name])
        for _ in range(choose.randint(1, 5)):
            at = choose.randrange(min(len(data) - 8, 8192)) & ~7
            data[at : at + 8] = choose.choice(EDGES).to_bytes(8, "big")
        data[:8] = SEEDS[name][:8]
        assert peak_of(bytes(data)) < PEAK


def peak_of(data: bytes) -> int:
    tracemalloc.start()
    try:
        exercise(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
