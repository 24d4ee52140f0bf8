"""How far a run of like entries goes, however long it is."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.tables import end_of_run


@given(st.data())
def test_it_is_what_a_loop_finds(data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([1, 2]))
    runs = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300)), min_size=1, max_size=6)
    )
    table = array("Q", [value for value, length in runs for _ in range(length * step)])
    start = data.draw(st.integers(0, len(table) // step - 1)) * step
    stop = data.draw(st.integers(start // step + 1, len(table) // step)) * step
    expected = start + step
    while expected < stop and table[expected : expected + step] == table[start : start + step]:
        expected += step
    assert end_of_run(table, start, stop, step) == expected


@pytest.mark.parametrize("step", [1, 2])
def test_every_length(step: int) -> None:
    """Up to another value, one that is half another, and a stop within the run."""
    for length in range(1, 140):
        run = [7, 7] * length if step == 2 else [7] * length
        for tail in ([], [7, 8], [8, 7], [8, 8]) if step == 2 else ([], [8], [6]):
            table = array("Q", [9, *run, *tail])
            assert end_of_run(table, 1, len(table), step) == 1 + len(run)
        table = array("Q", run + [7] * 200)
        assert end_of_run(table, 0, len(run), step) == len(run)
    assert end_of_run(array("Q", [7, 7, 7, 8]), 0, 4) == 3


def test_millions_of_entries() -> None:
    table = array("Q", bytes(32 << 20))
    table[3_999_999] = 1
    assert end_of_run(table, 5, len(table)) == 3_999_999
