"""Count at four places at once: with counters of perf, or with the debug registers by ptrace.

Both use the same breakpoints of the processor.  Counters stop nobody and follow new threads by
themselves.  Debug registers stop the thread at each hit, which takes 50 microseconds and more, but
tell from where data was touched, and need nothing but ptrace.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Protocol

from qcow2crypt.probe import perf, ptrace
from qcow2crypt.probe.memory import threads_of
from qcow2crypt.probe.record import Offset, Place
from qcow2crypt.probe.space import Space

AT_ONCE = perf.AT_ONCE
_MOST_HITS = 200_000
"""Stops after which the debug registers are turned off: it takes ten seconds by then."""


class Watch(Protocol):
    """A way to count.  ``incomplete`` where it had to stop before the end."""

    limits: list[str]
    incomplete: bool

    def begin(self, tid: int, address: int, place: Place) -> bool:
        """Count at ``address`` from now on; False where that cannot be."""

    def sync(self, space: Space, tid: int) -> None:
        """A stopped thread is about to run: see to it that it is counted, too."""

    def forget(self, tid: int) -> None:
        """A program was started in this thread, or it ended: what was set in it is gone."""

    def trap(self, space: Space, tid: int, address: int) -> bool:
        """A thread stopped at ``address``: was that a breakpoint of ours?"""

    def counts(self) -> dict[Place, int]:
        """What was counted."""

    def users(self) -> dict[Place, Counter[Offset]]:
        """Which instructions touched data, where that is known."""

    def close(self) -> None:
        """Give back what the system lent."""


class PerfWatch:
    """With counters of perf.  See ``Watch``."""

    def __init__(self) -> None:
        self.limits: list[str] = []
        self.incomplete = False
        self._open: dict[Place, list[int]] = {}

    def begin(self, tid: int, address: int, place: Place) -> bool:
        """One counter for each thread there is; those to come inherit it."""
        descriptors = self._open.setdefault(place, [])
        for each in threads_of(tid):
            try:
                descriptors.append(perf.open_counter(each, address, data=place.data))
            except ProcessLookupError:  # noqa: PERF203 - each thread by itself
                continue  # a thread that has just ended
            except OSError as error:
                self.limits.append(f"a counter was refused ({error.strerror})")
                return False
        return True

    def sync(self, space: Space, tid: int) -> None:
        """Nothing to do: counters follow."""

    def forget(self, tid: int) -> None:
        """Nothing to do: the kernel removes them."""

    def trap(self, space: Space, tid: int, address: int) -> bool:
        """Counters stop nobody."""
        del space, tid, address
        return False

    def counts(self) -> dict[Place, int]:
        """The sum over all processes."""
        return {place: sum(map(perf.read_counter, fds)) for place, fds in self._open.items()}

    def users(self) -> dict[Place, Counter[Offset]]:
        """Counters do not know."""
        return {}

    def close(self) -> None:
        """Close all counters."""
        for descriptors in self._open.values():
            for each in descriptors:
                os.close(each)
        self._open.clear()


class RegisterWatch:
    """With debug registers.  See ``Watch``."""

    def __init__(self) -> None:
        self.limits: list[str] = []
        self.incomplete = False
        self._counts: Counter[Place] = Counter()
        self._users: dict[Place, Counter[Offset]] = {}
        self._set: dict[int, list[tuple[int, Place]]] = {}

    def begin(self, tid: int, address: int, place: Place) -> bool:
        """Every thread gets it when it stops next."""
        del tid, address
        self._counts[place] += 0
        return True

    def sync(self, space: Space, tid: int) -> None:
        """Bring the registers of a stopped thread up to date."""
        wanted = [] if self.incomplete else space.watched
        if self._set.get(tid, []) == wanted:
            return
        control = 0
        ptrace.set_debug_register(tid, 7, 0)
        for number, (address, place) in enumerate(wanted):
            ptrace.set_debug_register(tid, number, address)
            # Length 8 and "read or write" for data, length 1 for instructions.
            kind = 0b1011 if place.data else 0
            control |= 1 << 2 * number | kind << 16 + 4 * number
        ptrace.set_debug_register(tid, 7, control)
        self._set[tid] = list(wanted)

    def forget(self, tid: int) -> None:
        """Its registers are empty."""
        self._set.pop(tid, None)

    def trap(self, space: Space, tid: int, address: int) -> bool:
        """Count what register 6 tells."""
        happened = ptrace.debug_register(tid, 6) & 15
        if not happened:
            return False
        ptrace.set_debug_register(tid, 6, 0)
        for number, (_, place) in enumerate(self._set.get(tid, [])):
            if happened & 1 << number:
                self._counts[place] += 1
                if place.data and (user := space.place_of(address - 1)):
                    self._users.setdefault(place, Counter())[user] += 1
        if self._counts.total() >= _MOST_HITS and not self.incomplete:
            self.incomplete = True
            self.limits.append(f"counting ended after {_MOST_HITS} hits")
        return True

    def counts(self) -> dict[Place, int]:
        """The sum over all threads."""
        return dict(self._counts)

    def users(self) -> dict[Place, Counter[Offset]]:
        """The instruction behind each touch: the processor stops after it."""
        return self._users

    def close(self) -> None:
        """Nothing was lent."""
