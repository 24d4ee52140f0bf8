"""Counts by cluster, and refcount blocks of every width."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcow2crypt.image.qcow2.counts import CHUNK, ClusterCounts
from qcow2crypt.image.qcow2.refcountblock import (
    pack_refcounts,
    refcount_max,
    refcounts_per_block,
    small_refcounts,
    unpack_refcounts,
)


@pytest.mark.parametrize("order", range(7))
def test_blocks_of_every_width(order: int) -> None:
    draw = random.Random(order)
    counts = [draw.randint(0, refcount_max(order)) for _ in range(refcounts_per_block(512, order))]
    packed = pack_refcounts(counts, order)
    assert len(packed) == 512
    assert list(unpack_refcounts(packed, order)) == counts


@pytest.mark.parametrize(
    ("order", "packed"), [(0, "3f"), (1, "5505"), (2, "111111"), (4, "000100010001000100010001")]
)
def test_six_used_clusters_as_qemu_writes_them(order: int, packed: str) -> None:
    data = bytes.fromhex(packed)
    counts = list(unpack_refcounts(data, order))
    assert counts[:6] == [1] * 6
    assert not any(counts[6:])
    assert pack_refcounts(counts, order) == data


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("large", [False, True])
def test_small_counts_are_bytes(order: int, large: bool) -> None:
    draw = random.Random(order)
    most = min(255, refcount_max(order))
    counts = [draw.randint(0, most) for _ in range(refcounts_per_block(512, order))]
    if large:
        counts[7] = refcount_max(order)
    packed = pack_refcounts(counts, order)
    found = small_refcounts(packed, order)
    assert list(found) == counts
    assert isinstance(found, bytes) == (max(counts) < 256)
    assert pack_refcounts(found, order) == packed


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


NUMBERS = st.one_of(
    st.integers(0, 40), st.integers(CHUNK - 20, CHUNK + 20), st.integers(3 * CHUNK, 3 * CHUNK + 9)
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS, st.sampled_from([1, 2, 300])),
        st.tuples(st.just("run"), NUMBERS, st.integers(0, 40)),
        st.tuples(st.just("clear"), NUMBERS, st.integers(0, 40)),
        st.tuples(st.just("set"), NUMBERS, st.sampled_from([0, 1, 255, 256, 2**64 - 1])),
        st.tuples(st.just("load"), NUMBERS, st.integers(0, 40)),
    ),
    max_size=12,
)


def play(steps: list[tuple[str, int, int]]) -> tuple[ClusterCounts, dict[int, int]]:
    """The same steps for the counts and for a dictionary."""
    counts, model = ClusterCounts(), dict.fromkeys(range(4 * CHUNK), 0)
    for step, first, value in steps:
        if step == "add":
            counts.add(first, value)
            model[first] = min(model[first] + value, 2**64 - 1)
        elif step == "set":
            counts[first] = value
            model[first] = value
        elif step == "run":
            counts.add_run(first, value)
            for cluster in range(first, first + value):
                model[cluster] = min(model[cluster] + 1, 2**64 - 1)
        elif step == "clear":
            counts.clear_run(first, value)
            model |= dict.fromkeys(range(first, first + value), 0)
        else:
            loaded = [7 * i for i in range(value)]
            counts.load(first, loaded)
            model |= {first + i: 7 * i for i in range(value)}
    return counts, model


@settings(max_examples=25)
@given(STEPS)
def test_counts_are_those_of_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    counts, model = play(steps)
    used = [cluster for cluster, count in model.items() if count]
    assert counts.end == (max(used) + 1 if used else 0)
    assert list(counts.slice(0, 4 * CHUNK)) == list(model.values())
    assert list(counts.used(3, 3 * CHUNK + 5)) == [
        cluster for cluster in used if 3 <= cluster < 3 * CHUNK + 5
    ]
    for unit in (64, 1000, CHUNK, 3 * CHUNK):
        assert list(counts.used_ranges(unit)) == sorted({cluster // unit for cluster in used})
    for limit in (0, 1, 255, 256):
        assert counts.over(limit) == sum(max(0, count - limit) for count in model.values())
    for start in (0, 5, CHUNK - 3):
        for length in (1, 3, 30):
            first = counts.first_free(start, length)
            assert first >= start
            assert not any(counts[first + i] for i in range(length))
            for earlier in range(start, first):
                assert any(counts[earlier + i] for i in range(length))
    twin = counts.copy()
    twin.clamp(3)
    assert list(twin.slice(0, 4 * CHUNK)) == [min(count, 3) for count in model.values()]
    assert list(counts.slice(0, 4 * CHUNK)) == list(model.values())


def test_a_cluster_at_the_far_end_costs_little() -> None:
    counts = ClusterCounts()
    counts.add(2**54)
    assert counts.end == 2**54 + 1
    assert counts.first_free(0, 10**9) == 0
    assert list(counts.used_ranges(2**20)) == [2**34]
