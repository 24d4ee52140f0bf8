"""Does one kind of work depend on the cluster size: every answer, from made-up figures."""

from __future__ import annotations

import pytest
from support.figures import FLAT, STEEP, near, wild

from qcow2crypt.bench.dependence import Dependence, dependence, share_without_cipher


def points(seconds: dict[int, float], rounds: int = 9) -> dict[int, list[float]]:
    return {size: near(one, rounds) for size, one in seconds.items()}


def told(seconds: dict[int, float], noise: float = 1.0, rounds: int = 9) -> Dependence:
    found = dependence(points(seconds, rounds), noise)
    assert found is not None
    return found


def test_it_depends() -> None:
    found = told(STEEP)
    assert (found.verdict, found.slowest, found.fastest) == ("depends", 512, 65536)
    assert found.ratio == pytest.approx(4)
    assert found.low <= found.ratio <= found.high
    assert found.steady_from == 4096


def test_it_is_steady() -> None:
    found = told(FLAT)
    assert (found.verdict, found.steady_from) == ("steady", 512)


def test_a_small_difference_is_none() -> None:
    assert told({512: 1.1, 65536: 1.0}).verdict == "steady"


def test_samples_that_vary_cannot_be_told() -> None:
    found = dependence({512: wild(1.0, shift=1), 65536: wild(0.8, shift=3)}, 1.0)
    assert found is not None
    assert found.verdict == "cannot tell"
    assert found.low < 1.2 < found.high


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"),
    [
        (1.4, 1.3, "depends"),
        (1.4, 1.45, "cannot tell"),
        (1.4, 3.0, "cannot tell"),
        (4.0, 3.0, "depends"),
        (1.0, 1.3, "steady"),
        (1.0, 1.6, "cannot tell"),
    ],
)
def test_a_noisy_machine_wants_greater_differences(
    ratio: float, noise: float, verdict: str
) -> None:
    assert told({512: ratio, 65536: 1.0}, noise).verdict == verdict


@pytest.mark.parametrize("rounds", [1, 2])
def test_too_few_rounds(rounds: int) -> None:
    found = told(STEEP, rounds=rounds)
    assert (found.verdict, found.ratio) == ("cannot tell", 0)


@pytest.mark.parametrize("sizes", [(), (512,)])
def test_one_size_is_no_question(sizes: tuple[int, ...]) -> None:
    assert dependence({size: [1.0] * 9 for size in sizes}, 1.0) is None


@pytest.mark.parametrize(
    ("seconds", "start"),
    [
        ({512: 4.0, 4096: 2.0, 65536: 1.0}, None),
        ({512: 4.0, 4096: 1.0, 65536: 1.1}, 4096),
        ({512: 1.0, 4096: 1.0, 65536: 2.0}, None),
        ({512: 9.0, 1024: 5.0, 4096: 1.0, 65536: 1.0}, 4096),
    ],
)
def test_from_where_on_it_makes_no_difference(seconds: dict[int, float], start: int | None) -> None:
    assert told(seconds).steady_from == start


@pytest.mark.parametrize(
    ("plain", "share"),
    [
        ({512: 0.4, 65536: 0.1}, 1.0),
        ({512: 0.25, 65536: 0.1}, 0.5),
        ({512: 0.1, 65536: 0.1}, 0.0),
        ({512: 0.05, 65536: 0.1}, 0.0),
        ({512: 9.0, 65536: 0.1}, 1.0),
        ({65536: 0.1}, None),
    ],
)
def test_what_is_there_without_encryption(plain: dict[int, float], share: float | None) -> None:
    aes = points({512: 0.4, 65536: 0.1})
    found = dependence(aes, 1.0)
    assert found is not None
    told = share_without_cipher(points(plain), aes, found)
    assert (told is None) is (share is None)
    assert told is None or told.median == pytest.approx(share)


def test_a_share_of_wild_samples_has_a_wide_interval() -> None:
    aes = {512: wild(4.0, shift=1), 65536: wild(0.2, shift=2)}
    plain = {512: wild(2.0, shift=3), 65536: wild(0.2, shift=2)}
    found = Dependence("depends", 4, 4, 4, 512, 65536, None)
    told = share_without_cipher(plain, aes, found)
    assert told is not None
    assert 0 <= told.low < told.median < told.high <= 1


def test_two_rounds_tell_no_share() -> None:
    aes = points(STEEP, 2)
    assert share_without_cipher(aes, aes, Dependence("depends", 4, 4, 4, 512, 65536, None)) is None
