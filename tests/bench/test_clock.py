"""Rounds with a clock that only moves when a subject says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from support.figures import conversion

from qcow2crypt.bench.clock import Taken, take_rounds
from qcow2crypt.bench.subjects import Subject, Work
from qcow2crypt.errors import BenchError


class Clock:
    """Seconds that pass by work alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> float:
        self.log.append(name)
        self.now += seconds
        return seconds

    def control(self) -> None:
        self.work("control", 0.5)


def work_of(name: str) -> Work:
    return conversion(who=name)


def subject(
    clock: Clock, name: str, seconds: float, check: Callable[[], None] | None = None
) -> Subject:
    return Subject(work_of(name), lambda: clock.work(name, seconds), check)


def take(clock: Clock, subjects: list[Subject], **other: float) -> Taken:
    given = {"rounds": 5, "seconds": 1000.0, "patience": 10.0} | other
    return take_rounds(
        subjects,
        rounds=int(given["rounds"]),
        seconds=given["seconds"],
        patience=given["patience"],
        tell=lambda number, rounds, seconds: None,
        clock=clock,
        control=clock.control,
    )


def test_each_round_takes_everybody_once_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    names = [f"subject {number}" for number in range(25)]
    taken = take(clock, [subject(clock, name, 1.0) for name in names])
    assert taken.rounds == 5
    assert taken.samples == {work_of(name): [1.0] * 5 for name in names}
    assert clock.log[:25] == names  # the warm-up, in order
    assert Counter(clock.log) == {**dict.fromkeys(names, 6), "control": 1 + 5 * 3}
    assert taken.control == [0.5] * 15


def test_the_order_changes_from_round_to_round_and_is_the_same_in_every_run() -> None:
    logs = []
    for _ in range(2):
        clock = Clock()
        take(clock, [subject(clock, str(number), 1.0) for number in range(8)])
        logs.append(clock.log)
    assert logs[0] == logs[1]
    rounds = [tuple(logs[0][start + 1 : start + 9]) for start in range(9, 54, 9)]
    assert len(set(rounds)) == 5
    assert {frozenset(one) for one in rounds} == {frozenset(map(str, range(8)))}


def test_no_round_begins_that_would_end_too_late() -> None:
    clock = Clock()
    taken = take(clock, [subject(clock, "a", 1.0), subject(clock, "b", 1.0)], seconds=9.9, rounds=9)
    # The warm-up takes 2.5 seconds with the control, each round 2.5.
    assert taken.rounds == 2
    assert clock.now - 100 <= 9.9


def test_one_round_is_taken_however_late_it_is() -> None:
    clock = Clock()
    taken = take(clock, [subject(clock, "a", 5.0)], seconds=0.0)
    assert (taken.rounds, taken.samples) == (1, {work_of("a"): [5.0]})


def test_who_needs_too_long_is_left_out_and_named() -> None:
    clock = Clock()
    taken = take(clock, [subject(clock, "slow", 11.0), subject(clock, "fast", 1.0)])
    assert list(taken.samples) == [work_of("fast")]
    assert [one.why for one in taken.missing] == [
        "one sample takes 11 seconds, too long for a run of this length"
    ]
    assert clock.log.count("slow") == 1


def test_who_gives_wrong_data_is_left_out() -> None:
    clock = Clock()

    def wrong() -> None:
        raise BenchError("another disk")

    taken = take(clock, [subject(clock, "wrong", 1.0, wrong), subject(clock, "right", 1.0)])
    assert list(taken.samples) == [work_of("right")]
    assert [(one.why, "wrong" in one.what) for one in taken.missing] == [("another disk", True)]


def test_who_fails_later_leaves_no_samples() -> None:
    clock = Clock()
    calls = 0

    def sample() -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise BenchError("the disk is full")
        return clock.work("sometimes", 1.0)

    taken = take(clock, [Subject(work_of("sometimes"), sample), subject(clock, "ever", 1.0)])
    assert taken.samples == {work_of("ever"): [1.0] * 5}
    assert [one.why for one in taken.missing] == ["the disk is full"]
    assert calls == 4


def test_nobody_is_left() -> None:
    taken = take(Clock(), [])
    assert (taken.rounds, taken.samples) == (5, {})
