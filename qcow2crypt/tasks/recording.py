"""What was given to the writer of a new image, step by step, so that it can be done once more.

Where data is compressed, or compared with a backing file, only the writer sees what is stored.
Knows offsets and lengths; of bytes nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from qcow2crypt.units import GuestOffset, ReadBuffer

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.fresh.compressing import GrowingTarget

Kind: TypeAlias = Literal["d", "z", "c"]
"""Data, zeros, compressed clusters."""

_CLUSTERS_MAX = 32
"""So many are looked at together when they are compared."""


class Step(NamedTuple):
    """One step; it and all before it are done when all before guest offset ``end`` is.

    ``numbers`` are offset and length, over and over; for compressed clusters the offset of the
    first and then the length of each.  A step without numbers says how far all is done.
    """

    end: int
    kind: Kind
    numbers: list[int]


class Recorder:
    """Hands all on to ``writer``, and tells each step when it is done."""

    def __init__(
        self, writer: GrowingTarget, cluster_size: int, tell: Callable[[Step], None]
    ) -> None:
        self._writer = writer
        self._cluster_size = cluster_size
        self._tell = tell

    @property
    def size(self) -> int:
        """Of the disk in bytes."""
        return self._writer.size

    def grow(self, size: int) -> None:
        """Hand on."""
        self._writer.grow(size)

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Hand on and tell."""
        self._writer.write(offset, data)
        length = memoryview(data).nbytes
        self._tell(Step(offset + length, "d", [offset, length]))

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Hand on and tell."""
        self._writer.write_zeroes(offset, length)
        self._tell(Step(offset + length, "z", [offset, length]))

    def write_compressed(self, offset: GuestOffset, stored: bytes) -> None:
        """Hand on and tell."""
        self._writer.write_compressed(offset, stored)
        end = min(offset + self._cluster_size, self.size)
        self._tell(Step(end, "c", [offset, len(stored)]))

    def finish(self) -> None:
        """Hand on."""
        self._writer.finish()


def joined(steps: Iterable[Step]) -> Iterator[Step]:
    """Compressed clusters that follow one another as one step."""
    waiting: Step | None = None
    for step in steps:
        if waiting is not None:
            follows = step.kind == waiting.kind == "c" and waiting.end == step.numbers[0]
            if follows and len(waiting.numbers) <= _CLUSTERS_MAX:
                waiting = Step(step.end, "c", [*waiting.numbers, *step.numbers[1:]])
                continue
            yield waiting
        waiting = step
    if waiting is not None:
        yield waiting
