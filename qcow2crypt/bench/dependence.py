"""Does one kind of work depend on the cluster size?  Pure functions of samples.

The slowest size is held against the fastest, round by round.  Three answers: it depends, it is
steady, or it cannot be told, because the samples or the machine are too noisy.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from qcow2crypt.bench.noise import TOO_NOISY
from qcow2crypt.bench.samples import Ratio, ratio

Verdict = Literal["depends", "steady", "cannot tell"]

MATTERS = 1.2
"""A difference under this factor is called none."""

Points = Mapping[int, Sequence[float]]
"""Cluster size to samples, those of one round at the same place for all sizes."""


class Dependence(NamedTuple):
    """What is known.  ``slowest`` and ``fastest`` are cluster sizes by their medians.

    ``ratio``        how many times as long the slowest took, with its interval ``low``, ``high``;
                     0 each where there are too few samples
    ``steady_from``  the smallest size from which on all are alike, None where there is none
    """

    verdict: Verdict
    ratio: float
    low: float
    high: float
    slowest: int
    fastest: int
    steady_from: int | None


def dependence(points: Points, noise: float) -> Dependence | None:
    """What the samples tell, on a machine with this noise factor; None for less than two sizes.

    >>> dependence({512: [4.0] * 9, 65536: [1.0] * 9}, 1.0).verdict
    'depends'
    """
    if len(points) < 2:
        return None
    medians = {size: statistics.median(samples) for size, samples in points.items()}
    slowest, fastest = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
    found = ratio(points[slowest], points[fastest])
    if found is None:
        return Dependence("cannot tell", 0, 0, 0, slowest, fastest, None)
    verdict: Verdict = "cannot tell"
    if found.low >= max(MATTERS, noise):
        verdict = "depends"
    elif found.high < MATTERS and noise < TOO_NOISY:
        verdict = "steady"
    return Dependence(verdict, *found, slowest, fastest, _plateau(medians))


def share_without_cipher(plain: Points, aes: Points, found: Dependence) -> Ratio | None:
    """Which part of the difference between the slowest and the fastest size is there in plain
    images too, round by round, each between 0 and 1.  None where it is not known: plain images of
    these sizes were not measured, or there were too few rounds.

    >>> found = Dependence("depends", 4, 4, 4, 512, 65536, None)
    >>> aes = {512: [4] * 3, 65536: [1] * 3}
    >>> share_without_cipher({512: [2] * 3, 65536: [0.5] * 3}, aes, found)
    Ratio(median=0.5, low=0.5, high=0.5)
    """
    sizes = (found.slowest, found.fastest)
    if not found.ratio or any(size not in plain for size in sizes):
        return None
    grown = [
        [slow - fast for slow, fast in zip(*(points[size] for size in sizes), strict=True)]
        for points in (plain, aes)
    ]
    parts = [
        min(1.0, max(0.0, without / with_aes if with_aes > 0 else 1.0))
        for without, with_aes in zip(*grown, strict=True)
    ]
    return ratio(parts, [1.0] * len(parts))


def _plateau(medians: Mapping[int, float]) -> int | None:
    sizes = sorted(medians)
    for number, size in enumerate(sizes[:-1]):
        rest = [medians[other] for other in sizes[number:]]
        if max(rest) < MATTERS * min(rest):
            return size
    return None
