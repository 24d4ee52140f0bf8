"""A lock that many readers share and one writer has alone.  Knows nothing of images.

A writer that waits keeps new readers out, so it gets its turn.  A thread that reads must not
write before it is done reading, and must not begin to read while it writes: it would wait for
itself.
"""

from __future__ import annotations

import threading
from types import TracebackType


class ReadWriteLock:
    """``with lock.reading:`` and ``with lock.writing:``."""

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        entrance = threading.Lock()
        self.reading = _Readers(entrance)
        self.writing = _Writer(entrance, self.reading)


class _Readers:
    __slots__ = ("changed", "count", "entrance")

    def __init__(self, entrance: threading.Lock) -> None:
        self.entrance = entrance
        self.changed = threading.Condition(threading.Lock())
        self.count = 0

    def __enter__(self) -> None:
        with self.entrance, self.changed:
            self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.changed:
            self.count -= 1
            if not self.count:
                self.changed.notify_all()


class _Writer:
    __slots__ = ("_entrance", "_readers")

    def __init__(self, entrance: threading.Lock, readers: _Readers) -> None:
        self._entrance = entrance
        self._readers = readers

    def __enter__(self) -> None:
        self._entrance.acquire()
        try:
            with self._readers.changed:
                while self._readers.count:
                    self._readers.changed.wait()
        except BaseException:  # Ctrl-C while waiting
            self._entrance.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entrance.release()
