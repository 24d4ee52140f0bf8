"""Not more than so many bytes a second.  Knows a clock and numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimit:
    """``rate`` bytes a second on average; what was not used before is not made up for.

    One thread at a time asks.  Whoever waits goes on at once after ``give_up``.
    """

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._given_up = threading.Event()
        self._wait = wait or self._given_up.wait
        self._paid_at: float | None = None

    def take(self, count: int) -> None:
        """Wait until what was taken before is paid for; then ``count`` bytes may go."""
        now = self._clock()
        if self._paid_at is not None and self._paid_at > now:
            self._wait(min(self._paid_at - now, threading.TIMEOUT_MAX))
            now = self._paid_at
        self._paid_at = now + count / self._rate

    def give_up(self) -> None:
        """Nobody shall wait any more: the work has failed, or is over."""
        self._given_up.set()
