"""A file of lines that says how far a long work is, so that it can go on after a sudden end.

Each line is JSON with a checksum: what was cut short at the end counts as not written.  The first
line tells what the work is.  Knows nothing of images.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qcow2crypt.errors import TargetError
from qcow2crypt.image.filecalls import claim


class Journal:
    """The journal at ``path``; it is locked, and open until ``close``.

    ``about`` is what the first line says, None for an empty journal.  Raises TargetError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.fdopen(os.open(path, flags, 0o600), "r+b")
        except OSError as error:
            raise TargetError(f"cannot open the journal '{path}': {error.strerror}") from error
        try:
            if claim(self._file.fileno()) is False:
                raise TargetError(f"another conversion uses the journal '{path}'")
            self.about: Any = next(self._lines(), None)
        except BaseException:
            self._file.close()
            raise

    def begin(self, about: Any) -> None:  # noqa: ANN401 - what JSON can say
        """Forget all, and write the first line."""
        self.about = about
        with self._failures():
            self._file.seek(0)
            self._file.truncate()
        self.append([about])

    def append(self, records: Sequence[Any]) -> None:
        """Add lines at the end, on the disk when this returns."""
        with self._failures():
            self._file.seek(0, os.SEEK_END)
            for record in records:
                self._file.write(_line(record))
            self._file.flush()
            os.fsync(self._file.fileno())

    def records(self) -> Iterator[Any]:
        """What was appended, in order.  A line that is not whole ends it, and goes away."""
        lines = self._lines()
        next(lines, None)
        yield from lines

    def _lines(self) -> Iterator[Any]:
        position = 0
        while True:
            with self._failures():
                self._file.seek(position)
                line = self._file.readline()
            record = _parse(line)
            if record is None:
                break
            position += len(line)
            yield record
        with self._failures():
            self._file.truncate(position)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TargetError(f"cannot use the journal '{self.path}': {error.strerror}") from error

    def remove(self) -> None:
        """The work is done, or cannot go on: no journal is left."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(record: Any) -> bytes:  # noqa: ANN401
    text = json.dumps(record, separators=(",", ":")).encode()
    return text + b" %08x\n" % zlib.crc32(text)


def _parse(line: bytes) -> Any:  # noqa: ANN401
    text, space, check = line.rpartition(b" ")
    if not space or check != b"%08x\n" % zlib.crc32(text):
        return None
    return json.loads(text)
