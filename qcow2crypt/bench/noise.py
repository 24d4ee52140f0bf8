"""Is the machine quiet enough to tell anything.

A pure function of the control samples (the same small piece of work, which has nothing to do with
images or AES, timed again and again between all the others: on a quiet machine it always takes as
long) and of how far the samples of the figures themselves lie apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

from qcow2crypt.bench.samples import FEWEST, quantile

Level = Literal["quiet", "noisy", "too noisy"]

QUIET = 1.15
TOO_NOISY = 1.5
"""From here on nothing is called steady, and a difference is only what is clearly greater."""


class Noise(NamedTuple):
    """How it stands with the machine.

    ``factor``   a difference below this factor may be noise: the greater of the next two
    ``control``  how many times as long the control took in its slow moments (the slowest tenth)
                 as in its fast ones
    ``typical``  one more than the spread that half of the figures stay under
    """

    level: Level
    factor: float
    control: float
    typical: float
    text: str


def judge(
    control: Sequence[float], spreads: Sequence[float], load: float | None, processors: int
) -> Noise:
    """The noise of a run.  ``load`` is the load average before it began, None if unknown.

    >>> judge([1.0] * 20, [0.02] * 9, 0.0, 2).level
    'quiet'
    """
    if len(control) < FEWEST:
        why = "Nothing is known of the noise of this machine: there were too few rounds."
        return Noise("too noisy", TOO_NOISY, TOO_NOISY, TOO_NOISY, why)
    ordered = sorted(control)
    slow = quantile(ordered, 0.9) / quantile(ordered, 0.1)
    typical = 1 + (statistics.median(spreads) if spreads else 0.0)
    factor = max(slow, typical)
    seen = (
        f"in slow moments the same small work took {slow:.2f} times as long as in fast ones, and "
        f"the middle half of the samples of a figure typically lies within {typical - 1:.0%} of it."
    )
    if load is not None and load > processors / 4:
        seen += f" When the run began, the load was {load:.1f} on {processors} processors already."
    if factor < QUIET and (load is None or load <= processors / 2):
        return Noise("quiet", factor, slow, typical, f"Yes, the machine was quiet: {seen}")
    if factor < TOO_NOISY:
        text = f"In part. The machine was somewhat noisy: {seen} Small differences mean nothing."
        return Noise("noisy", factor, slow, typical, text)
    text = (
        f"Not the small things, the machine was too noisy to tell them: {seen} "
        f"Only what differs {factor:.1f} times is called a difference here, and nothing is called "
        "steady. Measure again when nothing else runs."
    )
    return Noise("too noisy", factor, slow, typical, text)
