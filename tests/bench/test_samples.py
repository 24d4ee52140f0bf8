"""Medians, how far they can be trusted, and ratios by rounds."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.bench.samples import confidence, quantile, ratio, summary

SAMPLES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60)


@given(SAMPLES)
def test_a_median_lies_in_its_interval(samples: list[float]) -> None:
    found = summary(samples)
    assert found.median == statistics.median(samples)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)
    assert found.samples == len(samples)
    assert found.spread >= 0


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (9, 1, 7), (21, 5, 15)]
)
def test_the_interval_is_that_of_order_statistics(count: int, low: int, high: int) -> None:
    """The ranks of the usual table for 95 %: those of a sign test."""
    found = summary([float(number) for number in range(count)])
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize("count", range(6, 80))
def test_six_samples_are_enough_to_be_sure(count: int) -> None:
    assert 0.95 <= confidence(count) <= 1


@pytest.mark.parametrize("count", range(1, 6))
def test_fewer_are_not(count: int) -> None:
    assert confidence(count) < 0.95


def test_a_drift_that_meets_both_is_no_difference() -> None:
    """The machine gets ten times slower in the middle: the ratio is still that of the work."""
    drift = [1.0, 10.0, 1.0, 10.0, 10.0, 1.0, 10.0]
    found = ratio([2 * one for one in drift], drift)
    assert found is not None
    assert (found.median, found.low, found.high) == (2, 2, 2)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_rounds_give_no_ratio(count: int) -> None:
    assert ratio([1.0] * count, [1.0] * count) is None


def test_quantiles() -> None:
    assert [quantile([1, 2, 3], part) for part in (0, 0.25, 0.5, 1)] == [1, 1.5, 2, 3]
    assert quantile([7], 0.9) == 7
