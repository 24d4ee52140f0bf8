"""The engine ``pure``: nothing but the standard library, and still many sectors at a time.

CBC decryption works on every block of a run at once.  CBC encryption is serial within a sector,
so it works on one block of every sector at once: block 0 of all sectors, then block 1 of all.
Both use ``pure_rows``, which pays from some blocks on.  Fewer go through ``pure_block``.

Long runs are cut into pieces, so memory stays small and the integers stay in the cache of the
processor.  A piece is read whole before any of it is written, which makes in place right.

Knows keys, IVs and buffers; knows no sector numbers.  Follows NIST SP 800-38A, section 6.2.
Not constant-time.
"""

from __future__ import annotations

import struct

from qcow2crypt.engines import pure_block, pure_rows
from qcow2crypt.engines.base import byte_view, check_blocks, check_key, check_run
from qcow2crypt.reference.aes import set_encrypt_key
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

# Measured with benchmarks/engines.py; flat to either side.
_FEW_BLOCKS = 5  # up to here one block after the other is faster than rows
_PIECE_OF_BLOCKS = 2048  # blocks worked on at once where all are independent: 32 KiB
_PIECE_OF_SECTORS = 1024  # sectors worked on at once when encrypting
_SCHEDULES_KEPT = 4


class PureKey:
    """An expanded key of the engine ``pure``.  See ``ExpandedKey``."""

    def __init__(self, key: bytes) -> None:
        check_key(key)
        words = set_encrypt_key(bytes(key), 8 * len(key)).rd_key
        self._round_keys = tuple(
            struct.pack(">4I", *words[i : i + 4]) for i in range(0, len(words), 4)
        )
        self._block_keys = tuple(int.from_bytes(k, "little") for k in self._round_keys)
        self._schedules: dict[int, pure_rows.RowSchedule] = {}

    def __repr__(self) -> str:
        return "<expanded key of the engine 'pure'>"

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``."""
        count = check_run(ivs, src, dst, sector_size)
        iv_bytes, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
        encrypt = self._encrypt_each_sector if count <= _FEW_BLOCKS else self._encrypt_by_columns
        for first in range(0, count, _PIECE_OF_SECTORS):
            end = min(first + _PIECE_OF_SECTORS, count)
            place = slice(first * sector_size, end * sector_size)
            piece_ivs = bytes(iv_bytes[first * BLOCK_SIZE : end * BLOCK_SIZE])
            target[place] = encrypt(piece_ivs, bytes(source[place]), sector_size)
