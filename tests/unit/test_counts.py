"""Counts by cluster, against a list of numbers.

Few clusters are kept together here, so that short steps cross from one part of the memory to the
next.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.counts import ClusterCounts

CHUNK = 256
CLUSTERS = 6 * CHUNK
"""More than any step reaches."""
MOST = 2**64 - 1


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qcow2crypt.image.qcow2.counts.CHUNK", CHUNK)
        yield


# ------------------------------------------------------------------------------ against a list

NUMBERS = st.one_of(
    st.integers(0, 40),
    st.integers(CHUNK - 20, CHUNK + 20),
    st.integers(2 * CHUNK - 1, 2 * CHUNK),
    st.integers(3 * CHUNK, 3 * CHUNK + 9),
)
LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from((CHUNK - 1, CHUNK, CHUNK + 1, 600)))
TIMES = st.sampled_from((1, 1, 2, 254, 255, 256, 300, -1, -2, -255, -256))
LOADED = st.one_of(
    LENGTHS.map(bytes),
    st.binary(max_size=CHUNK + 30),
    st.lists(st.sampled_from((0, 1, 255, 256, MOST)), max_size=40),
    st.lists(st.integers(0, 255), max_size=40).map(lambda counts: array("Q", counts)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS, TIMES),
        st.tuples(st.just("run"), NUMBERS, LENGTHS, TIMES),
        st.tuples(st.just("clear"), NUMBERS, LENGTHS),
        st.tuples(st.just("set"), NUMBERS, st.sampled_from([0, 1, 255, 256, MOST])),
        st.tuples(st.just("load"), NUMBERS, LOADED),
        st.tuples(st.just("clamp"), st.sampled_from((0, 1, 3, 254, 255, 256, 1000))),
    ),
    max_size=12,
)


def play(steps: list[tuple[object, ...]]) -> tuple[ClusterCounts, list[int]]:
    """The same steps for the counts and for a list."""
    counts, model = ClusterCounts(), [0] * CLUSTERS
    for step in steps:
        match step:
            case "add", int(cluster), int(times):
                if model[cluster] + times >= 0:
                    counts.add(cluster, times)
                    model[cluster] = min(model[cluster] + times, MOST)
            case "run", int(first), int(length), int(times):
                before = model[first : first + length]
                if not before or min(before) + times >= 0:
                    counts.add_run(first, length, times)
                    model[first : first + length] = [min(old + times, MOST) for old in before]
            case "clear", int(first), int(length):
                counts.clear_run(first, length)
                model[first : first + length] = [0] * length
            case "set", int(cluster), int(count):
                counts[cluster] = count
                model[cluster] = count
            case "load", int(first), (bytes() | list() | array()) as loaded:
                counts.load(first, loaded)
                model[first : first + len(loaded)] = loaded
            case "clamp", int(limit):
                counts.clamp(limit)
                model = [min(count, limit) for count in model]
            case _:
                raise AssertionError(step)
    return counts, model


@settings(max_examples=150)
@given(STEPS)
def test_counts_are_those_of_a_list(steps: list[tuple[object, ...]]) -> None:
    counts, model = play(steps)
    used = [cluster for cluster, count in enumerate(model) if count]
    assert [counts[cluster] for cluster in range(CLUSTERS)] == model
    assert list(counts.slice(0, CLUSTERS)) == model
    assert counts.end == (max(used) + 1 if used else 0)
    for unit in (51, 100, CHUNK - 1, CHUNK, 3 * CHUNK):
        assert list(counts.used_ranges(unit)) == sorted({cluster // unit for cluster in used})
    for limit in (0, 1, 254, 255, 256):
        assert counts.over(limit) == sum(max(0, count - limit) for count in model)
    twin = counts.copy()
    twin.add_run(0, CLUSTERS, 300)
    assert list(counts.slice(0, CLUSTERS)) == model


@settings(max_examples=150)
@given(STEPS, NUMBERS, LENGTHS)
def test_parts_are_those_of_a_list(
    steps: list[tuple[object, ...]], start: int, length: int
) -> None:
    counts, model = play(steps)
    end = start + length
    assert list(counts.slice(start, length)) == model[start:end]
    assert list(counts.used()) == [cluster for cluster, count in enumerate(model) if count]
    assert list(counts.used(start, end)) == [n for n in range(start, end) if model[n]]
    first = counts.first_free(start, length)
    model += [0] * (start + length)  # all is free there
    assert first == next(n for n in range(start, len(model)) if not any(model[n : n + length]))


# ------------------------------------------------------------------------------------ one by one


@pytest.mark.parametrize("times", [-300, -255, -2, -1, 0, 1, 2, 254, 255, 256, 1 << 40])
@pytest.mark.parametrize("old", [[0, 1, 2], [2, 2, 2], [255, 254, 0], [300, 400, 500], [1 << 63]])
def test_a_run_is_its_clusters(old: list[int], times: int) -> None:
    runs, singles = ClusterCounts(), ClusterCounts()
    for counts in (runs, singles):
        counts.load(CHUNK - 1, old)
    if min(old) + times < 0:
        with pytest.raises(OverflowError):
            runs.add_run(CHUNK - 1, len(old), times)
        return
    runs.add_run(CHUNK - 1, len(old), times)
    for cluster in range(CHUNK - 1, CHUNK - 1 + len(old)):
        singles.add(cluster, times)
    assert list(runs.slice(CHUNK - 1, 5)) == list(singles.slice(CHUNK - 1, 5))
    assert list(runs.used()) == list(singles.used())


def test_once_is_what_is_counted_where_nothing_else_is_said() -> None:
    counts = ClusterCounts()
    counts.add(1)
    counts.add_run(1, 2)
    assert list(counts.slice(0, 4)) == [0, 2, 1, 0]


def test_a_count_stays_at_the_limit() -> None:
    counts = ClusterCounts()
    counts.add(7, MOST - 1)
    assert counts[7] == MOST - 1
    for times in (1, 1, MOST):
        counts.add(7, times)
        assert counts[7] == MOST
    counts.add_run(6, 3, MOST)
    assert list(counts.slice(5, 5)) == [0, MOST, MOST, MOST, 0]


# ---------------------------------------------------------------------------- memory and steps


@pytest.mark.parametrize(("length", "times"), [(1, 255), (CHUNK, 255), (2, 1), (1, 1)])
def test_small_counts_of_a_run_change_in_one_step(length: int, times: int) -> None:
    """From 0 up to 255 and down again, without a step for each cluster."""
    counts = ClusterCounts()
    with mock.patch.object(ClusterCounts, "add", side_effect=AssertionError("one by one")):
        for _ in range(255 // times):
            counts.add_run(0, length, times)
        assert list(counts.slice(0, length)) == [255] * length
        counts.add_run(0, length, 0)
        for _ in range(255 // times):
            counts.add_run(0, length, -times)
    assert not any(counts.slice(0, length))


def test_a_cluster_at_the_far_end_costs_little() -> None:
    counts = ClusterCounts()
    counts.add(2**54)
    assert counts.end == 2**54 + 1
    assert counts.first_free(0, 10**6) == 0
    assert list(counts.used_ranges(2**20)) == [2**34]
    assert counts.chunks == 1


@pytest.mark.parametrize(
    "zeros", [bytes(CHUNK), [0] * CHUNK, array("Q", [0] * CHUNK)], ids=["bytes", "list", "array"]
)
def test_what_is_never_counted_costs_nothing(zeros: Sequence[int]) -> None:
    counts = ClusterCounts()
    counts.load(CHUNK // 2, zeros)
    counts.clear_run(0, CLUSTERS)
    assert not any(counts.slice(0, CLUSTERS))
    assert counts[3] == 0
    assert counts.chunks == 0


def test_small_counts_take_a_byte_each() -> None:
    counts = ClusterCounts()
    counts.add_run(0, 2 * CHUNK, 254)
    counts.add_run(0, 2 * CHUNK)
    counts.add(0, -1)
    counts.load(9, [255] * CHUNK)
    assert isinstance(counts.slice(0, 2 * CHUNK), bytes)
    counts[CHUNK] = 256
    assert isinstance(counts.slice(0, CHUNK), bytes)
    assert isinstance(counts.slice(CHUNK, CHUNK), array)
    assert isinstance(counts.slice(0, 2 * CHUNK), array)
