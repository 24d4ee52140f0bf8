"""Our own code with one fault: each function puts one in, for the rest of the process."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from qcow2crypt.crypt import cipher, ivgen
from qcow2crypt.image.qcow2.edit.cow import ClusterWriter
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.units import SECTOR_SIZE, SectorNumber


def host_iv() -> None:
    """The IV is made of the host sector."""

    def decrypt(self: SectorFile, view: memoryview, start: int, host: int) -> None:
        assert self.cipher is not None
        self.cipher.decrypt_into(view, view, SectorNumber(host // SECTOR_SIZE))

    SectorFile._decrypt = decrypt  # type: ignore[method-assign]
    SectorFile._by_place = True


def big_endian_iv() -> None:
    """The sector number is written big-endian."""

    def generate(first: int, count: int) -> bytes:
        numbers = range(first, first + count)
        return b"".join(number.to_bytes(8, "big") + bytes(8) for number in numbers)

    ivgen._MAKERS["plain64"] = lambda _key, _engine: generate


def padded_key() -> None:
    """A short passphrase is filled with spaces."""

    def key(passphrase: str | bytes) -> bytes:
        data = passphrase.encode() if isinstance(passphrase, str) else passphrase
        return data[:16].ljust(16, b" ")

    cipher.key_from_passphrase = key  # type: ignore[attr-defined]


def l2_off_by_one() -> None:
    """Each guest cluster is looked up one entry too far."""
    make: Callable[..., None] = ClusterMap.__init__
    run: Callable[..., Any] = ClusterMap._standard_run

    def initialize(self: ClusterMap, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        self._many = None

    def standard_run(self: ClusterMap, table: array[int], *args: Any) -> Any:
        return run(self, table[1:] + table[:1], *args)

    ClusterMap.__init__ = initialize  # type: ignore[method-assign]
    ClusterMap._standard_run = standard_run  # type: ignore[assignment]


def cow_without_tail() -> None:
    """A cluster that is copied on write loses what stood behind the new bytes."""
    make: Callable[..., None] = ClusterWriter.__init__

    def initialize(self: ClusterWriter, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        view = self._old_view

        def old_view(buffer: memoryview, offset: int) -> None:
            if offset % self._size == 0:
                view(buffer, offset)

        self._old_view = old_view

    ClusterWriter.__init__ = initialize  # type: ignore[method-assign]


def late_refcounts() -> None:
    """Refcounts are written behind the tables that need them."""

    def commit(self: Metadata) -> None:
        self.tables.write_dirty()
        self._write_l1()
        self.barrier()
        self._write_refcounts()
        self.file.flush()
        self._settle()

    Metadata.commit = commit  # type: ignore[method-assign]


def slow_reader() -> None:
    """Reading an encrypted sector does not end."""

    def decrypt(self: SectorFile, view: memoryview, start: int, host: int) -> None:
        while True:
            pass

    SectorFile._decrypt = decrypt  # type: ignore[method-assign]


VARIANTS = {
    "host-iv": host_iv,
    "big-endian-iv": big_endian_iv,
    "padded-key": padded_key,
    "l2-off-by-one": l2_off_by_one,
    "cow-without-tail": cow_without_tail,
    "late-refcounts": late_refcounts,
    "slow-reader": slow_reader,
}
