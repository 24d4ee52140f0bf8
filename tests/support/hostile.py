"""All that can be done with the bytes of an image, whatever they are, and how it may fail.

``exercise`` describes and reads, ``exercise_check`` checks and repairs, ``exercise_writing``
changes a copy.  Only our own errors may come out.  A file that is read is never written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
from collections.abc import Callable

import qcow2crypt
from qcow2crypt.errors import ArgumentError, FormatError, Qcow2CryptError, SourceError

MIB = 1 << 20
EXTENTS_MAX = 3000
PIECE = 64 << 10
READ_AT_EACH_END = MIB
SNAPSHOTS_MAX = 3
FORMATS = (None, "qcow2")


class Counting(io.BytesIO):
    """A file that counts how often it is read, stops what never stops, and is never written."""

    LIMIT = 200_000
    steps = 0

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        self._step()
        return super().readinto(buffer)

    def write(self, data: object, /) -> int:
        raise AssertionError("who reads must not write")

    def truncate(self, size: int | None = None, /) -> int:
        raise AssertionError("who reads must not write")

    def _step(self) -> None:
        self.steps += 1
        assert self.steps < self.LIMIT, "this reads for ever"


class Changing(Counting):
    """The same, for writing; as a real disk, it has an end."""

    LARGEST = 64 * MIB

    def write(self, data: object, /) -> int:
        self._step()
        self._check(self.tell())
        return io.BytesIO.write(self, data)  # type: ignore[arg-type]

    def truncate(self, size: int | None = None, /) -> int:
        self._check(size or 0)
        return io.BytesIO.truncate(self, size)

    def _check(self, size: int) -> None:
        if size > self.LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def exercise(data: bytes) -> None:
    """Do with these bytes all that can be done without writing, in bounded pieces."""
    for format_name in FORMATS:
        guard(lambda name=format_name: describe(data, name))  # type: ignore[misc]
        guard(lambda name=format_name: read(data, name))  # type: ignore[misc]


def describe(data: bytes, format_name: str | None) -> None:
    """What ``info`` prints."""
    info = qcow2crypt.info(Counting(data), format=format_name)
    json.dumps(info.as_dict())


def read(data: bytes, format_name: str | None) -> None:
    """The map and both ends of the disk, now and at the time of the snapshots."""
    with qcow2crypt.open(Counting(data), secret="x", format=format_name) as image:
        assert image.size % 512 == 0
        read_image(image)
        guard(lambda: read_snapshots(image))


def read_image(image: qcow2crypt.Image) -> None:
    """The map and both ends of one disk."""
    guard(lambda: walk(image))
    for start in (0, max(0, image.size - READ_AT_EACH_END)):
        for at in range(start, min(start + READ_AT_EACH_END, image.size), PIECE):
            guard(lambda at=at: whole_piece(image, at))  # type: ignore[misc]


def read_snapshots(image: qcow2crypt.Image) -> None:
    """The disks of the first snapshots."""
    for snapshot in image.snapshots()[:SNAPSHOTS_MAX]:
        guard(lambda snapshot=snapshot: read_snapshot(image, snapshot.id))  # type: ignore[misc]


def read_snapshot(image: qcow2crypt.Image, name: str) -> None:
    """The disk at the time of a snapshot."""
    with image.snapshot(name) as view:
        read_image(view)


def walk(image: qcow2crypt.Image) -> None:
    """The extents come in order and without gaps."""
    position = 0
    for extent in itertools.islice(image.extents(), EXTENTS_MAX):
        assert extent.guest_offset == position
        assert extent.length > 0
        position += extent.length
    assert position <= image.size


def whole_piece(image: qcow2crypt.Image, at: int) -> None:
    """No piece inside the disk is short."""
    assert len(image.pread(PIECE, at)) == min(PIECE, image.size - at)


def exercise_check(data: bytes) -> None:
    """Check; then repair a copy in both ways, which must come to an end."""
    guard(lambda: qcow2crypt.check(Counting(data), format="qcow2"))
    guard(lambda: qcow2crypt.check(Changing(data), format="qcow2", repair="leaks"))
    guard(lambda: qcow2crypt.check(Changing(data), format="qcow2", repair="all"))


Work = Callable[[qcow2crypt.Image], None]


def exercise_writing(data: bytes) -> None:
    """Each kind of change, alone, on a copy of its own."""
    for work in CHANGES:
        guard(lambda work=work: change(data, work))  # type: ignore[misc]


def change(data: bytes, work: Work) -> None:
    """One change of a copy.  Wherever its tables point, the header stays a header."""
    file = Changing(data)
    with qcow2crypt.open(file, "x", "r+", format="qcow2") as image:
        work(image)
        image.flush()
        assert qcow2crypt.info(Counting(file.getvalue())).format == "qcow2"


def write_some(image: qcow2crypt.Image) -> None:
    """What was written with success is read back."""
    length = min(3000, image.size)
    for at in (0, (image.size - length) // 2, image.size - length):
        data = bytes([at % 255 + 1]) * length
        image.pwrite(data, at)
        image.flush()
        assert image.pread(length, at) == data


def erase_some(image: qcow2crypt.Image) -> None:
    length = min(40_000, image.size)
    image.write_zeroes(0, length)
    assert not any(image.pread(length, 0))
    image.discard(0, length)
    image.write_zeroes(image.size - length, length, unmap=True)


def keep_some(image: qcow2crypt.Image) -> None:
    kept = image.create_snapshot("new")
    image.apply_snapshot(kept.id)
    for snapshot in image.snapshots()[:SNAPSHOTS_MAX]:
        image.delete_snapshot(snapshot.id)


def grow(image: qcow2crypt.Image) -> None:
    with contextlib.suppress(ArgumentError):  # it may be at its limit
        image.truncate(image.size + 70_144)


def shrink(image: qcow2crypt.Image) -> None:
    image.truncate(512)


CHANGES: tuple[Work, ...] = (write_some, erase_some, keep_some, grow, shrink)


def guard(work: Callable[[], object]) -> None:
    """Run it; the only way to fail is an error of ours that says where."""
    try:
        work()
    except FormatError as error:
        assert error.field
        assert error.offset is None or error.offset >= 0
        assert error.found
        assert error.allowed
        assert str(error).count("\n") == 0
    except ArgumentError:  # no argument of ours is wrong
        raise
    except Qcow2CryptError as error:
        assert not isinstance(error, SourceError), "a file in memory can always be read"
