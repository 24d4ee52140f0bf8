"""Who reads the tables of a check: reading needs no order, judging does.

Knows neither tables nor files.  ``one_by_one`` is the plain way, and the slow twin of what
``tasks.readahead`` does on several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

Place = TypeVar("Place")
Data = TypeVar("Data")


class InOrder(Protocol):
    """Has places read, and what stands there judged."""

    def __call__(
        self,
        places: Iterable[Place],
        read: Callable[[Place], Data],
        judge: Callable[[Place, Data], None],
        length: int,
        /,
    ) -> None:
        """``judge`` is called for one place after the other, in their order; ``read`` any time
        before.  A place has ``length`` bytes.  The first error in that order ends it: all before
        it is judged, nothing behind it.
        """


def one_by_one(
    places: Iterable[Place],
    read: Callable[[Place], Data],
    judge: Callable[[Place, Data], None],
    length: int,
    /,
) -> None:
    """Read and judge one place, then the next: see ``InOrder``."""
    del length  # no more is held in memory than one place has
    for place in places:
        judge(place, read(place))
