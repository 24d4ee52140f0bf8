"""Jobs on threads: the order of turns and reports, errors, and that no thread stays."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from qcow2crypt.tasks.pipeline import Turn, default_threads, in_turn

COUNTS = [1, 2, 3, 4, 16]


def wait_a_little(job: int) -> None:
    time.sleep(random.Random(job).random() / 500)


@pytest.mark.parametrize("threads", COUNTS)
@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 50])
def test_turns_and_reports_come_in_order(jobs: int, threads: int) -> None:
    decided: list[int] = []
    finished: set[int] = set()
    told: list[int] = []

    def work(job: int, turn: Turn) -> int:
        wait_a_little(job)
        if job % 3:  # some need no turn
            with turn:
                decided.append(job)
        wait_a_little(-job)
        finished.add(job)
        return job

    def tell(far: int) -> None:
        assert finished >= set(range(far + 1))
        told.append(far)

    before = threading.active_count()
    in_turn(range(jobs), lambda: work, tell, threads)
    assert decided == [job for job in range(jobs) if job % 3]
    assert told == sorted(told)
    assert told[-1:] == [jobs - 1][: jobs > 0]
    assert finished == set(range(jobs))
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", COUNTS)
@pytest.mark.parametrize("where", ["before the turn", "in the turn", "after the turn"])
def test_the_error_of_the_first_job_is_raised(where: str, threads: int) -> None:
    decided: list[int] = []
    bad = {20: KeyError("first"), 21: ValueError("second")}

    def fail(job: int, here: str) -> None:
        if job in bad and where == here:
            if job == 20:
                time.sleep(0.01)  # the second may well come before it
            raise bad[job]

    def work(job: int, turn: Turn) -> int:
        fail(job, "before the turn")
        with turn:
            fail(job, "in the turn")
            decided.append(job)
        fail(job, "after the turn")
        return job

    before = threading.active_count()
    with pytest.raises(KeyError) as caught:
        in_turn(range(1000), lambda: work, lambda _: None, threads)
    assert caught.value is bad[20]
    assert decided == sorted(decided)
    assert len(decided) < 40
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", COUNTS)
def test_a_caller_who_gives_up_ends_all(threads: int) -> None:
    before = threading.active_count()

    def work(job: int, turn: Turn) -> int:
        with turn:
            return job

    def stop(far: int) -> None:
        if far >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turn(iter(int, 1), lambda: work, lambda _: stop(10), threads)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", COUNTS)
def test_jobs_that_cannot_be_made(threads: int) -> None:
    done: list[int] = []

    def work(job: int, turn: Turn) -> int:
        with turn:
            done.append(job)
        return job

    def jobs() -> Iterator[int]:
        yield from range(5)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        in_turn(jobs(), lambda: work, lambda _: None, threads)
    assert done == list(range(5))


@pytest.mark.parametrize("threads", COUNTS)
def test_a_job_that_fails_goes_before_one_that_cannot_be_made(threads: int) -> None:
    def work(job: int, turn: Turn) -> int:
        time.sleep(0.01)
        raise KeyError(job)

    def jobs() -> Iterator[int]:
        yield 0
        raise OSError("no more")

    with pytest.raises(KeyError):
        in_turn(jobs(), lambda: work, lambda _: None, threads)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_system_with_room_for_few_threads(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may limit processes, and threads are counted as such."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == room:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    done: list[int] = []
    told: list[int] = []
    given_up: list[bool] = []

    def work(job: int, turn: Turn) -> int:
        with turn:
            done.append(job)
        return job

    in_turn(iter(range(20)), lambda: work, told.append, 4, give_up=lambda: given_up.append(True))
    assert (done, told[-1]) == (list(range(20)), 19)
    assert (len(started), given_up) == (room, [True] * (room > 0))
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.parametrize("which", [0, 1, 3])
def test_ctrl_c_while_a_thread_is_started(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread runs already, and nobody has heard of it."""
    start = threading.Thread.start
    count = 0
    busy = threading.Event()
    running: list[int] = []

    def interrupted(thread: threading.Thread) -> None:
        nonlocal count
        start(thread)
        count += 1
        if count > which:
            busy.wait(10)
            raise KeyboardInterrupt

    def work(job: int, turn: Turn) -> int:
        running.append(job)
        busy.set()
        time.sleep(0.05)
        running.remove(job)
        return job

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_turn(iter(int, 1), lambda: work, lambda _: None, 4)
    assert busy.is_set()
    assert not running


def test_default_threads() -> None:
    assert 1 <= default_threads() <= 4
