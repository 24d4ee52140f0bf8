"""Runs of entries, and the slow twin: all there is, once, and nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.check.named import NamedTables
from qcow2crypt.image.qcow2.entries import OFFSET_MASK
from qcow2crypt.image.qcow2.runs import (
    entry_runs,
    equal_runs,
    flipped,
    grows,
    single_entries,
)
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED

STEP = 512
TOP = (1 << 56) - STEP
ENTRIES = st.one_of(
    st.integers(0, 4),
    st.sampled_from([0, 1, COPIED, COPIED | 1, COMPRESSED, TOP, COPIED | TOP, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 20).map(lambda n: n * STEP),
)
PIECES = st.lists(
    st.one_of(
        st.tuples(ENTRIES, st.sampled_from([0, STEP]), st.integers(1, 40)),
        st.tuples(st.integers(0, 9).map(lambda n: COPIED | n * STEP), st.just(STEP), st.just(700)),
    ),
    max_size=6,
)


def table_of(pieces: Iterable[tuple[int, int, int]]) -> array[int]:
    """First entry, growth and count of each piece."""
    return array(
        "Q",
        [
            first + n * growth & (1 << 64) - 1
            for first, growth, count in pieces
            for n in range(count)
        ],
    )


@given(PIECES)
def test_runs_are_the_entries(pieces: list[tuple[int, int, int]]) -> None:
    table = table_of(pieces)
    single = list(single_entries(table))
    assert single == [(i, entry, 1) for i, entry in enumerate(table) if entry]
    assert [
        (index + n, entry + n * STEP, 1)
        for index, entry, count in entry_runs(table, STEP)
        for n in range(count)
    ] == single
    assert [
        (index + n, entry, 1) for index, entry, count in equal_runs(table) for n in range(count)
    ] == single


def grows_slowly(table: array[int]) -> bool:
    """The slow twin of ``grows``."""
    return all(b == a + STEP and a & ~OFFSET_MASK == b & ~OFFSET_MASK for a, b in pairwise(table))


@given(PIECES)
def test_a_table_that_grows(pieces: list[tuple[int, int, int]]) -> None:
    table = table_of(pieces)
    for part in (table, table[: pieces[0][2]], table[-2:]) if pieces else ():
        assert grows(memoryview(part), STEP) is grows_slowly(part)


@pytest.mark.parametrize("first", [0, 90 * STEP, COPIED | 90 * STEP | 1, TOP - 10 * STEP])
def test_one_entry_that_does_not_grow(first: int) -> None:
    for length in (1, 2, 3, 11, 12, 64):
        row = table_of([(first, STEP, length)])
        assert grows_slowly(row) is (first != TOP - 10 * STEP or length < 12)
        assert grows(memoryview(row), STEP) is grows_slowly(row)
        for odd in range(length if length > 1 else 0):
            for by in (STEP, -STEP, 1, COPIED):
                changed = row[:]
                changed[odd] = changed[odd] + by & (1 << 64) - 1
                assert grows(memoryview(changed), STEP) is False


@given(PIECES, st.sampled_from([COPIED, 1]))
def test_flipped(pieces: list[tuple[int, int, int]], flag: int) -> None:
    table = table_of(pieces)
    assert list(flipped(table, flag)) == [entry ^ flag for entry in table]


def test_a_full_table_is_one_run() -> None:
    table = table_of([(0, 0, 3), (COPIED | 5 * STEP, STEP, 4000), (1, 0, 2), (7 * STEP, STEP, 90)])
    assert list(entry_runs(table, STEP)) == [
        (3, COPIED | 5 * STEP, 4000),
        (4003, 1, 1),
        (4004, 1, 1),
        (4005, 7 * STEP, 90),
    ]


@pytest.mark.parametrize("entry", [COMPRESSED | 99, 1 << 56 | STEP])
def test_what_is_not_clear_stands_alone(entry: int) -> None:
    table = table_of([(STEP, STEP, 5), (entry, 0, 1)])
    assert list(entry_runs(table, STEP)) == list(single_entries(table))


def test_named_tables() -> None:
    named = NamedTables(clusters=1, cluster_bits=9)
    for offset, times in ((512, 1), (0, 300), (512, 2), (100, 1), (700, 4), (100, 1)):
        assert named.add(offset, times)
    assert {offset: named[offset] for offset in named} == {0: 300, 100: 2, 512: 3, 700: 4}
    assert list(named) == [0, 100, 512, 700]
    assert (named[1024], named[101]) == (0, 0)
    others = [named.add(1 + n, 1) for n in range(65)]
    assert others == [True] * 64 + [False]
    assert named.add(100, 1)
    assert named.add(1 << 40, 1)
