"""From samples to figures: medians, how far they can be trusted, ratios by rounds.

Pure functions of numbers.  Nothing is assumed of how samples are spread, so the interval of a
median is that of order statistics: between the k-th least and the k-th greatest sample
(David and Nagaraja, Order Statistics, section 7.1).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
"""Wanted of an interval; fewer than six samples cannot give it."""
FEWEST = 3
"""Samples without which nothing is said."""


class Summary(NamedTuple):
    """What samples tell.

    ``low``, ``high``  the interval of the median
    ``spread``         the distance of the quartiles, as a part of the median
    """

    samples: int
    median: float
    low: float
    high: float
    spread: float


class Ratio(NamedTuple):
    """How many times as long one took as another, and the interval of it."""

    median: float
    low: float
    high: float


def summary(samples: Sequence[float]) -> Summary:
    """The summary of one sample or more.

    >>> summary([3, 1, 2])
    Summary(samples=3, median=2, low=1, high=3, spread=0.5)
    """
    ordered = sorted(samples)
    rank = _rank(len(ordered))
    median = statistics.median(ordered)
    spread = (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / median if median else 0.0
    return Summary(len(ordered), median, ordered[rank], ordered[-1 - rank], spread)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio | None:
    """``slow`` to ``fast``, round by round: a slow moment of the machine meets both.

    The two are samples of the same rounds.  None for fewer than three rounds.

    >>> ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    Ratio(median=2.0, low=2.0, high=2.0)
    """
    if len(slow) < FEWEST:
        return None
    found = summary([a / b for a, b in zip(slow, fast, strict=True)])
    return Ratio(found.median, found.low, found.high)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value under which ``part`` of the ordered samples lie, between samples linearly.

    >>> quantile([1, 2, 3, 4], 0.5)
    2.5
    """
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def confidence(samples: int) -> float:
    """How often the interval of so many samples holds the true median.

    >>> [round(confidence(count), 3) for count in (1, 3, 5, 9, 21)]
    [0.0, 0.75, 0.938, 0.961, 0.973]
    """
    return _coverage(samples, _rank(samples))


def _rank(samples: int) -> int:
    """How many samples to leave out at each end, so that the interval is still sure enough."""
    rank = 0
    while 2 * (rank + 1) < samples and _coverage(samples, rank + 1) >= CONFIDENCE:
        rank += 1
    return rank


def _coverage(samples: int, rank: int) -> float:
    """1 - 2 P(B <= rank), where B counts heads among so many fair coins."""
    outside = sum(math.comb(samples, heads) for heads in range(rank + 1))
    return max(0.0, 1 - 2 * outside / (1 << samples))
