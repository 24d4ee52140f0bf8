"""Read tables on a few threads, ahead of who judges them: for ``image.qcow2.check.order``.

While one table is judged the next ones are on their way from the disk.  What comes from the page
cache comes faster than threads take turns: they start with the first read that had to wait.
Memory is bounded: a thread has one batch at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from qcow2crypt.image.qcow2.check.order import InOrder, one_by_one
from qcow2crypt.tasks.pipeline import Turn, Worker, in_turn

Place = TypeVar("Place")
Data = TypeVar("Data")

READERS = 4
"""So many, however few processors there are: most of the time they wait."""
_BATCH_BYTES = 128 << 10
_BATCH_MAX = 64
_WAITING = 100e-6
_WAITING_BYTE = 1e-9
"""A read that takes longer, in seconds, was not from the page cache."""


def reading_ahead(threads: int) -> InOrder:
    """What reads with so many threads where reads take time; with one, as it comes."""
    if threads == 1:
        return one_by_one

    def ahead(
        places: Iterable[Place],
        read: Callable[[Place], Data],
        judge: Callable[[Place, Data], None],
        length: int,
        /,
    ) -> None:
        waiting = iter(places)
        for place in waiting:
            start = time.monotonic()
            data = read(place)
            waited = time.monotonic() - start > _WAITING + _WAITING_BYTE * length
            judge(place, data)
            if waited:
                break
        else:
            return
        several = max(1, min(_BATCH_MAX, _BATCH_BYTES // length))
        batches = iter(lambda: tuple(islice(waiting, several)), ())

        def do(batch: tuple[Place, ...], turn: Turn) -> int:
            found: list[Data] = []
            failure: Exception | None = None
            try:
                found.extend(map(read, batch))
            except Exception as error:  # noqa: BLE001 - raised again when it is its turn
                failure = error
            with turn:
                for place, data in zip(batch, found, strict=False):
                    judge(place, data)
                if failure is not None:
                    raise failure
            return 0

        def worker() -> Worker[tuple[Place, ...]]:
            return do

        in_turn(batches, worker, _tell_nobody, threads)

    return ahead


def _tell_nobody(far: int) -> None:
    """A check shows no progress."""
    del far
