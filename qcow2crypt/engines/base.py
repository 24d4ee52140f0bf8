"""What an engine is: bulk AES over buffers, above all AES-CBC with each sector its own message.

Knows keys, IVs and buffers; knows no sector numbers, clusters or images.  The IVs come in as
an array, one per sector, so the rule that makes them (plain64, essiv) stays outside.

To add an engine: write a module with a class that follows ``Engine`` and a function ``load``,
and add one row to the table in ``engines/__init__``.  The property tests then run over it
without a change.

Follows FIPS-197 (AES) and NIST SP 800-38A, section 6.2 (CBC).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

KEY_SIZES = (16, 24, 32)


class ExpandedKey(Protocol):
    """One AES key, ready for use by one engine.  Safe to share between threads.

    Buffers may lie anywhere and have items of any format; their bytes must be contiguous.
    ``src`` and ``dst`` are of equal length.  They are the same memory (in place)
    or do not overlap at all: a partial overlap cannot be seen from Python, so it is for the
    caller to avoid; what then ends up in ``dst`` is not defined.

    Raises ArgumentError, before any byte is written, when a buffer or a length does not fit.
    No bytes at all are allowed, and then nothing is done.  The repr shows no key material.
    """

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``.

        ``ivs`` holds 16 bytes per sector; ``sector_size`` is a multiple of 16 bytes.
        """

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``.  Arguments as ``cbc_encrypt``."""

    def ecb_encrypt(self, src: ReadBuffer, dst: WriteBuffer) -> None:
        """Encrypt every 16-byte block of ``src`` on its own.  Makes ESSIV; never for data."""


class Engine(Protocol):
    """One way to do AES.  ``name`` is the word that chooses it."""

    @property
    def name(self) -> str:
        """The name in the table of engines."""

    def expand_key(self, key: bytes) -> ExpandedKey:
        """Make the key schedule.  ``key`` has 16, 24 or 32 bytes, else ArgumentError."""


@runtime_checkable
class Plain64Engine(Engine, Protocol):
    """An engine that also makes the IVs of plain64, because it does so faster."""

    def plain64(self, first: int, count: int) -> ReadBuffer:
        """The numbers from ``first`` on, 64 bits little-endian and 8 zeros each.

        The caller has checked that they are all in 0 to 2**64 - 1.
        """


def check_key(key: bytes) -> None:
    """Refuse a key that AES does not have.  The message tells its length, never the key."""
    if not isinstance(key, (bytes, bytearray, memoryview)):
        raise ArgumentError(f"an AES key is bytes, not {type(key).__name__}")
    length = memoryview(key).nbytes
    if length not in KEY_SIZES:
        raise ArgumentError(f"an AES key has 16, 24 or 32 bytes, not {length}")


def byte_view(buffer: ReadBuffer) -> memoryview:
    """The same memory as a flat view of bytes, whatever the items of ``buffer`` are.

    Raises ArgumentError where there is no such view: no buffer, or gaps between the items.
    """
    try:
        view = memoryview(buffer)
    except TypeError:
        raise ArgumentError(f"a bytes-like object is needed, not {type(buffer).__name__}") from None
    if not view.c_contiguous:
        raise ArgumentError("the bytes of a buffer must be contiguous, this one has a step")
    if view.format == "B" and view.ndim == 1:
        return view
    if not view.nbytes:  # cast() does not take a shape with a zero in it
        return memoryview(bytearray())
    return view.cast("B")


def check_run(ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int) -> int:
    """Check the buffers of one call and give the number of sectors.  The one place for it."""
    if sector_size <= 0 or sector_size % BLOCK_SIZE:
        raise ArgumentError(f"sector size {sector_size} is not a positive multiple of {BLOCK_SIZE}")
    length = _check_pair(src, dst)
    count, rest = divmod(length, sector_size)
    if rest:
        raise ArgumentError(f"{length} bytes are not whole sectors of {sector_size} bytes")
    ivs_length = byte_view(ivs).nbytes
    if ivs_length != count * BLOCK_SIZE:
        raise ArgumentError(
            f"{count} sectors need {count * BLOCK_SIZE} bytes of IVs, got {ivs_length}"
        )
    return count


def check_blocks(src: ReadBuffer, dst: WriteBuffer) -> int:
    """Check the buffers of an ECB call and give the number of blocks."""
    length = _check_pair(src, dst)
    count, rest = divmod(length, BLOCK_SIZE)
    if rest:
        raise ArgumentError(f"{length} bytes are not whole blocks of {BLOCK_SIZE} bytes")
    return count


def pieces(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut ``count`` things into pieces of at most ``most``: the first and the end of each."""
    for first in range(0, count, most):
        yield first, min(first + most, count)


def _check_pair(src: ReadBuffer, dst: WriteBuffer) -> int:
    """Check that ``dst`` can take what comes from ``src``, and give the bytes of each."""
    length = byte_view(src).nbytes
    target = byte_view(dst)
    if target.readonly:
        raise ArgumentError("the output buffer is read-only")
    if target.nbytes != length:
        raise ArgumentError(f"output has {target.nbytes} bytes, input has {length}")
    return length
