"""Many readers or one writer, and a writer that waits comes before new readers."""

from __future__ import annotations

import threading

import pytest

from qcow2crypt.image.readwritelock import ReadWriteLock

LONG = 20.0  # seconds; only a broken lock waits so long
SHORT = 0.05


def started(action: threading.Event) -> bool:
    return action.wait(LONG)


def test_readers_share() -> None:
    lock = ReadWriteLock()
    together = threading.Barrier(3, timeout=LONG)

    def read() -> None:
        with lock.reading:
            together.wait()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not together.broken


def test_a_writer_waits_for_readers_and_keeps_new_ones_out() -> None:
    lock = ReadWriteLock()
    order = []
    wrote, read = threading.Event(), threading.Event()

    def writer() -> None:
        with lock.writing:
            order.append("write")
        wrote.set()

    def late_reader() -> None:
        with lock.reading:
            order.append("read")
        read.set()

    with lock.reading:
        first = threading.Thread(target=writer)
        first.start()
        assert not wrote.wait(SHORT)
        second = threading.Thread(target=late_reader)
        second.start()
        assert not read.wait(SHORT)
    assert started(wrote)
    assert started(read)
    first.join()
    second.join()
    assert order == ["write", "read"]


def test_an_error_inside_lets_go() -> None:
    lock = ReadWriteLock()
    for side in (lock.reading, lock.writing):
        with pytest.raises(ValueError, match="inside"), side:
            raise ValueError("inside")
    with lock.writing:
        pass
