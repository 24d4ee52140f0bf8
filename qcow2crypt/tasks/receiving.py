"""Make a new image of a disk that comes from a stream, without a copy of it in between.

Joins ``incoming`` and a writer.  How large the disk is, the end of the stream tells; a writer grows
with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from qcow2crypt.errors import ArgumentError, SourceError, TargetError
from qcow2crypt.image.base import Image
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.rawoptions import RawOptions
from qcow2crypt.secret import Secret
from qcow2crypt.targetdevice import open_target
from qcow2crypt.tasks.creation import (
    NewDiskWriter,
    Target,
    TargetFormat,
    TargetOptions,
    disk_writer,
)
from qcow2crypt.tasks.incoming import PIECE, Incoming, Piece
from qcow2crypt.tasks.manner import USUAL, Manner
from qcow2crypt.tasks.pipeline import Turn, Worker, in_turn
from qcow2crypt.tasks.ratelimit import RateLimit
from qcow2crypt.tasks.storing import Storer
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_up
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE


@dataclass(frozen=True, slots=True)
class Received:
    """What came: the size of the disk, how much of it was stored, the SHA-256 of all of it."""

    size: int
    stored: int
    digest: str | None


def receive(
    descriptor: int,
    target: Target,
    *,
    target_format: TargetFormat = "raw",
    target_secret: Secret = None,
    options: TargetOptions = None,
    size: int | None = None,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    compress: bool = False,
    hashed: bool = False,
    manner: Manner = USUAL,
) -> Received:
    """Read a raw disk from ``descriptor`` up to its end and write it as ``convert`` does.

    ``size`` in bytes says how much will come, if that is known: a stream of another length is then
    an error, which finds a sender that broke off.  Without it the options must not need a size
    (preallocation), and the file is the same as with it while the L1 table fits into one cluster
    (4 TiB of disk with clusters of 64 KiB, 2 MiB with 512 bytes).  ``progress`` gets None for
    the bytes in all while nobody knows how many.

    Raises SourceError, ArgumentError, SecretError, TargetError.
    """
    _check_options(options, size)
    with open_target(target, cache=manner.target_cache) as file, Incoming(descriptor) as stream:
        file.lock()
        first = stream.peek()
        known = size
        if known is None:
            known = stream.size if stream.ended else None
        writer = disk_writer(
            file,
            first.length if known is None else known,
            target_format,
            options,
            secret=target_secret,
            engine=engine,
            compress=compress,
            keep_zeros=not sparse_size,
        )
        receiver = _Receiver(stream, writer, sparse_size, known, manner.limit())
        if hashed:
            receiver.digest = hashlib.sha256()

        def tell(done: int) -> None:
            if progress:
                progress(done, known)

        tell(0)
        in_turn(
            stream.pieces(),
            receiver.worker,
            tell,
            manner.workers(),
            give_up=receiver.give_up,
        )
        _check_length(stream, size)
        writer.finish()
        file.commit()
        total = align_up(stream.size, SECTOR_SIZE)
        if progress:
            progress(total, total)
        digest = receiver.digest
        return Received(total, receiver.stored, None if digest is None else digest.hexdigest())


class _Receiver:
    """Stores the pieces of one stream."""

    def __init__(
        self,
        stream: Incoming,
        writer: NewDiskWriter,
        sparse_size: int,
        known: int | None,
        limit: RateLimit | None,
    ) -> None:
        self._stream = stream
        self._writer = writer
        self._storer = Storer(writer, sparse_size)
        self._known = None if known is None else align_up(known, SECTOR_SIZE)
        self._limit = limit
        self.stored = 0
        self.digest: hashlib._Hash | None = None

    def worker(self) -> Worker[Piece]:
        """One thread of it: all share the buffers of the stream."""
        return self._store

    def give_up(self) -> None:
        """Nobody shall wait any more."""
        self._stream.give_up()
        if self._limit is not None:
            self._limit.give_up()

    def _store(self, piece: Piece, turn: Turn) -> int:
        end = piece.offset + piece.length
        with memoryview(piece.buffer) as whole, whole[: piece.length] as view:
            runs = self._storer.runs([(GuestOffset(piece.offset), 0, piece.length)], view)
            with turn:
                if self._known is None:
                    self._writer.grow(end)
                elif end > self._known:
                    raise _wrong_length(self._stream, f"more than {self._known} bytes came")
                if self.digest is not None:
                    self.digest.update(view)
                length = sum(length for _, _, length in runs)
                if self._limit is not None and length:
                    self._limit.take(length)
                self.stored += length
                placed = self._storer.decide(runs, view)
            self._storer.put(placed, view)
        self._stream.give_back(piece)
        return end


def verify_received(image: Image, received: Received) -> str:
    """Read a target again: is it what came?  Gives the SHA-256.  Raises TargetError."""
    digest = hashlib.sha256()
    buffer = bytearray(min(PIECE, received.size))
    with memoryview(buffer) as view:
        for offset in range(0, received.size, PIECE):
            length = image.preadinto(view[: received.size - offset], offset)
            digest.update(view[:length])
    if digest.hexdigest() != received.digest or image.size < received.size:
        raise TargetError(
            f"'{image.name}' does not hold the disk that came: its SHA-256 is "
            f"{digest.hexdigest()}, not {received.digest}. Do not use this target"
        )
    return digest.hexdigest()


def _check_options(options: TargetOptions, size: int | None) -> None:
    if isinstance(options, Qcow2Options) and options.backing_file is not None:
        raise ArgumentError(
            "a target with a backing file needs a source that can be read anywhere: save the "
            "stream to a file first"
        )
    preallocates = (isinstance(options, Qcow2Options) and options.preallocates) or (
        isinstance(options, RawOptions) and options.preallocation != "off"
    )
    if preallocates and size is None:
        raise ArgumentError(
            "preallocation needs the size of the disk, which a stream does not tell: give it, "
            "or leave preallocation out"
        )


def _check_length(stream: Incoming, size: int | None) -> None:
    if size is not None and align_up(stream.size, SECTOR_SIZE) != align_up(size, SECTOR_SIZE):
        raise _wrong_length(stream, f"{stream.size} bytes came, and {size} were announced")


def _wrong_length(stream: Incoming, what: str) -> SourceError:
    return SourceError(
        f"{stream.name} has another length than was said: {what}. Look whether the program that "
        "writes to it failed"
    )
