"""Guest bytes of runs in a file: stored as they are, or encrypted sector by sector.

Knows the file, the cipher and the rule of legacy AES: the number of a *guest* sector makes its
IV, and a sector can only be decrypted as a whole.  Knows no tables: where a run lies it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down, align_up, guest_sector

if TYPE_CHECKING:
    from qcow2crypt.crypt.cipher import SectorCipher

_IN_SECTOR = SECTOR_SIZE - 1
_WIDENED_MAX = 64 << 10
"""So much is read by way of another buffer where its ends are no whole sectors."""


class SectorFile:
    """Reads guest bytes from ``file``, and decrypts them if there is a ``cipher``.  Thread-safe.

    Offsets are in bytes.  A run of an encrypted image lies in the file from a sector to a sector:
    so ``start`` and ``host`` are equally far into theirs.
    """

    _by_place = False
    """Whether it matters for decryption where a sector lies in the file."""

    def __init__(self, file: HostFile, cipher: SectorCipher | None) -> None:
        self.file = file
        self.cipher = cipher
        self.encrypted = cipher is not None

    def read(self, view: memoryview, start: int, host: int) -> None:
        """Fill ``view`` with guest bytes from ``start`` on, which lie at ``host`` in one run.

        Raises SourceError, and ArgumentError when it is closed.
        """
        if self.encrypted and (start | view.nbytes) & _IN_SECTOR:
            self._read_ragged(view, start, host)
            return
        self.file.pread_into(view, host)
        if self.encrypted:
            self._decrypt(view, start, host)

    def read_runs(self, view: memoryview, start: int, runs: Sequence[tuple[int, int]]) -> None:
        """As ``read``, from several runs: for each the guest offset where it ends, and its host
        offset.  Together they are ``view``.
        """
        if len(runs) == 1:
            self.read(view, start, runs[0][1])
            return
        parts: list[tuple[memoryview, int]] = []
        position = start
        for stop, host in runs:
            parts.append((view[position - start : stop - start], host))
            position = stop
        if self.encrypted and (start | view.nbytes) & _IN_SECTOR:
            position = start
            for part, host in parts:
                self.read(part, position, host)
                position += part.nbytes
            return
        self.file.pread_parts(parts)
        if self.encrypted and not self._by_place:
            self._decrypt(view, start, parts[0][1])
        elif self.encrypted:
            position = start
            for part, host in parts:
                self._decrypt(part, position, host)
                position += part.nbytes

    def _read_ragged(self, view: memoryview, start: int, host: int) -> None:
        """Read what begins or ends inside a sector."""
        end = start + view.nbytes
        first, last = align_up(start, SECTOR_SIZE), align_down(end, SECTOR_SIZE)
        if last - first > _WIDENED_MAX:
            self.read(view[first - start : last - start], first, host + first - start)
            if start < first:
                self._read_ragged(view[: first - start], start, host)
            if last < end:
                self._read_ragged(view[last - start :], last, host + last - start)
            return
        skip = start % SECTOR_SIZE
        whole = memoryview(bytearray(align_up(skip + view.nbytes, SECTOR_SIZE)))
        self.read(whole, start - skip, host - skip)
        view[:] = whole[skip : skip + view.nbytes]

    def _decrypt(self, view: memoryview, start: int, host: int) -> None:  # noqa: ARG002
        """Decrypt whole sectors; ``host`` is for those to whom it matters."""
        cipher = self.cipher
        if cipher is None:  # closed by another thread: never hand out ciphertext
            raise ArgumentError("the image is closed")
        cipher.decrypt_into(view, view, guest_sector(GuestOffset(start)))

    def close(self) -> None:
        """Close the file and forget the key."""
        # In this order: a read in another thread that finds no cipher must find no file.
        self.file.close()
        cipher, self.cipher = self.cipher, None
        if cipher is not None:
            cipher.close()
