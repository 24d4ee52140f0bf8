"""What an engine is: bulk AES-CBC over a run of sectors, each a message of its own.

Knows keys, IVs and buffers; knows no sector numbers, clusters or images.  The IVs come in as
an array, one per sector, so the rule that makes them (plain64, essiv) stays outside.

To add an engine: write a module with one class that follows ``Engine``, and add one row to
the table in ``engines/__init__``.  The property tests then run over it without a change.
"""

from __future__ import annotations

from typing import Protocol

from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

KEY_SIZES = (16, 24, 32)


class ExpandedKey(Protocol):
    """One AES key, ready for use by one engine.  Safe to share between threads.

    ``ivs`` holds 16 bytes per sector.  ``src`` and ``dst`` are of equal length, a multiple of
    ``sector_size``; they are the same memory (in place) or do not overlap at all.
    Raises ArgumentError, before any byte is written, when a length does not fit.
    """

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``."""

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``."""


class Engine(Protocol):
    """One way to do AES.  ``name`` is the word that chooses it."""

    @property
    def name(self) -> str: ...

    def expand_key(self, key: bytes) -> ExpandedKey:
        """Make the key schedule.  ``key`` has 16, 24 or 32 bytes, else ArgumentError."""


def check_key(key: bytes) -> None:
    """Refuse a key that AES does not have.  The message tells its length, never the key."""
    if len(key) not in KEY_SIZES:
        raise ArgumentError(f"an AES key has 16, 24 or 32 bytes, not {len(key)}")


def check_run(ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int) -> int:
    """Check the buffers of one call and give the number of sectors.  The one place for it."""
    if sector_size <= 0 or sector_size % BLOCK_SIZE:
        raise ArgumentError(f"sector size {sector_size} is not a positive multiple of 16")
    length = memoryview(src).nbytes
    count, rest = divmod(length, sector_size)
    if rest:
        raise ArgumentError(f"{length} bytes are not whole sectors of {sector_size} bytes")
    target = memoryview(dst)
    if target.readonly:
        raise ArgumentError("the output buffer is read-only")
    if target.nbytes != length:
        raise ArgumentError(f"output has {target.nbytes} bytes, input has {length}")
    ivs_length = memoryview(ivs).nbytes
    if ivs_length != count * BLOCK_SIZE:
        raise ArgumentError(
            f"{count} sectors need {count * BLOCK_SIZE} bytes of IVs, got {ivs_length}"
        )
    return count
