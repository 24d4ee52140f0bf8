"""Decide once more what a conversion decided before it was killed, and look whether it is the same.

Places follow from the steps in the journal.  Nothing is written; of some steps the bytes are made
again from the source, and compared with what the unfinished file has there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol, cast

from qcow2crypt.errors import TargetError
from qcow2crypt.image.placed import Run
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.creation import PlacingWriter
from qcow2crypt.tasks.journal import Journal
from qcow2crypt.tasks.sourcefiles import files_of, stamp
from qcow2crypt.tasks.work import Work
from qcow2crypt.units import GuestOffset, ReadBuffer

ALWAYS_FIRST, ALWAYS_LAST, AT_RANDOM = 2, 8, 16
"""So many steps are compared with the source."""


def replay(
    file: TargetFile, journal: Journal, work: Work, writer: PlacingWriter
) -> tuple[int, int]:
    """Do the steps in ``journal`` with ``writer``, whose target is ``file``.

    Gives the guest offset to go on from, and how many guest bytes were stored before it.  Raises
    TargetError where the file is not what is made of the sources, and what reading raises.
    """
    return _Replay(file, journal, work, writer).run()


def nowhere(data: ReadBuffer, offset: int) -> None:
    """The file holds this already."""


def cluster_size(work: Work) -> int:
    """Of the new image, if it is qcow2."""
    options = work.options if isinstance(work.options, Qcow2Options) else Qcow2Options()
    return options.cluster_size


class ReplayedWriter(PlacingWriter, Protocol):
    """A writer of a file; only that of a qcow2 file is ever given compressed clusters."""

    size: int

    def write_compressed(self, offset: GuestOffset, stored: bytes) -> None:
        """Store one cluster of which ``stored`` is the compressed form."""


class _Replay:
    def __init__(
        self, file: TargetFile, journal: Journal, work: Work, writer: PlacingWriter
    ) -> None:
        self._file = file
        self._journal = journal
        self._work = work
        self._writer = cast("ReplayedWriter", writer)
        self._cluster_size = cluster_size(work)
        self._stored = 0

    def run(self) -> tuple[int, int]:
        compared = self._compared()
        far = 0
        for number, (end, kind, *numbers) in enumerate(self._journal.records()):
            far = end
            if kind == "c":
                self._compressed(numbers[0], numbers[1:], compare=number in compared)
            elif kind == "z":
                for offset, _, length in _runs(numbers):
                    self._writer.write_zeroes(offset, length)
            else:
                self._data(list(_runs(numbers)), compare=number in compared)
        return far, self._stored

    @cached_property
    def _compress(self) -> Callable[[bytes], bytes]:
        from qcow2crypt.image.qcow2.fresh.compressing import compressor

        options = self._work.options
        return compressor(options if isinstance(options, Qcow2Options) else Qcow2Options())

    def _compared(self) -> frozenset[int]:
        """Which steps are compared: all where a changed source does not show otherwise."""
        records = enumerate(self._journal.records())
        steps = [number for number, (_, kind, *numbers) in records if kind != "z" and numbers]
        if any(
            found is None or found[-1] is None for found in map(stamp, files_of(self._work.read))
        ):
            return frozenset(steps)
        some = random.sample(steps, min(len(steps), AT_RANDOM))
        return frozenset((*some, *steps[:ALWAYS_FIRST], *steps[-ALWAYS_LAST:]))

    def _data(self, runs: list[Run], *, compare: bool) -> None:
        length = sum(size for _, _, size in runs)
        self._stored += length
        placed = self._writer.place(runs)
        if compare and length:
            buffer = bytearray(length)
            with memoryview(buffer) as view:
                for offset, at, size in runs:
                    self._read(view[at : at + size], offset)
                with self._comparing():
                    self._writer.put(placed, view)

    def _compressed(self, offset: int, lengths: Sequence[int], *, compare: bool) -> None:
        """Clusters that follow one another, each with the length that it was stored in."""
        for length in lengths:
            self._stored += self._cluster_size
            if compare:
                stored = self._made_again(offset)
                if len(stored) != length:
                    raise self._different()
                with self._comparing():
                    self._writer.write_compressed(GuestOffset(offset), stored)
            else:
                self._writer.write_compressed(GuestOffset(offset), bytes(length))
            offset += self._cluster_size

    def _made_again(self, offset: int) -> bytes:
        """The compressed form of one cluster."""
        cluster = bytearray(self._cluster_size)
        with memoryview(cluster) as view:
            self._read(view[: self._writer.size - offset], offset)
        return self._compress(bytes(cluster))

    def _read(self, view: memoryview, offset: int) -> None:
        """Guest bytes of the new disk, from its sources."""
        position = 0
        for image in self._work.images:
            if view and offset < position + image.size:
                length = min(len(view), position + image.size - offset)
                image.preadinto(view[:length], offset - position)
                view, offset = view[length:], offset + length
            position += image.size
        if view and self._work.rest is not None:
            self._work.rest.preadinto(view, offset)

    @contextmanager
    def _comparing(self) -> Iterator[None]:
        """What is written within is compared."""
        self._file.replaying = self._compare
        yield
        self._file.replaying = nowhere

    def _compare(self, data: ReadBuffer, offset: int) -> None:
        view = memoryview(data).cast("B")
        if self._file.pread(view.nbytes, offset) != bytes(view):
            raise self._different()

    def _different(self) -> TargetError:
        return TargetError(
            f"what is left of a conversion to '{self._file.name}' is not what this one "
            "writes: the source, a passphrase or the unfinished file is another. Delete "
            f"'{self._file.part}' and '{self._journal.path}' to begin anew"
        )


def _runs(flat: Sequence[int]) -> Iterator[Run]:
    at = 0
    for offset, size in zip(flat[::2], flat[1::2], strict=True):
        yield GuestOffset(offset), at, size
        at += size
