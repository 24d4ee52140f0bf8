"""Is the machine quiet enough: told from made-up samples of the control."""

from __future__ import annotations

import pytest
from support.figures import near

from qcow2crypt.bench.noise import TOO_NOISY, judge

STEADY = [0.02] * 20


def test_a_quiet_machine() -> None:
    found = judge(near(0.004, 50), STEADY, 0.0, 8)
    assert found.level == "quiet"
    assert found.text.startswith("Yes, the machine was quiet")
    assert "load" not in found.text


@pytest.mark.parametrize(
    ("slow", "level"), [(1.0, "quiet"), (1.3, "noisy"), (1.6, "too noisy"), (9.0, "too noisy")]
)
def test_slow_moments_of_the_control(slow: float, level: str) -> None:
    found = judge([1.0] * 40 + [slow] * 10, STEADY, None, 2)
    assert found.level == level
    assert found.control == pytest.approx(slow)
    assert f"{found.control:.2f} times as long" in found.text


def test_one_slow_moment_in_a_hundred_is_nothing() -> None:
    assert judge([1.0] * 99 + [50.0], STEADY, None, 2).level == "quiet"


@pytest.mark.parametrize(("spread", "level"), [(0.05, "quiet"), (0.3, "noisy"), (0.8, "too noisy")])
def test_figures_that_vary_are_noise_too(spread: float, level: str) -> None:
    found = judge(near(1.0, 50), [spread] * 9, None, 2)
    assert found.level == level
    assert found.factor == pytest.approx(max(found.control, 1 + spread))


def test_a_busy_machine_is_named() -> None:
    found = judge(near(1.0), STEADY, 1.7, 2)
    assert (found.level, "the load was 1.7 on 2 processors" in found.text) == ("noisy", True)
    found = judge(near(1.0), STEADY, 0.7, 2)
    assert (found.level, "the load was 0.7 on 2 processors" in found.text) == ("quiet", True)
    found = judge(near(1.0), STEADY, 0.3, 2)
    assert (found.level, "load" in found.text) == ("quiet", False)


def test_too_noisy_says_what_to_do() -> None:
    text = judge([1.0, 2.0] * 20, STEADY, None, 2).text
    assert text.startswith("Not the small things")
    assert "Measure again when nothing else runs" in text


@pytest.mark.parametrize("count", [0, 1, 2])
def test_without_rounds_nothing_is_known(count: int) -> None:
    found = judge([1.0] * count, [], None, 2)
    assert (found.level, found.factor) == ("too noisy", TOO_NOISY)
