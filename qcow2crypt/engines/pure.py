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
from qcow2crypt.engines.base import byte_view, check_blocks, check_key, check_run, pieces
from qcow2crypt.reference.aes import set_encrypt_key
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

# Found by measuring; speed changes little around these values.
_FEW_BLOCKS = 3  # so few side by side: one block after the other is faster than rows
_PIECE_BLOCKS = 2048  # independent blocks worked on at once: 32 KiB
_PIECE_SECTORS = 1024  # sectors encrypted at once
_SCHEDULES_KEPT = 4  # of half a MiB at most


class PureKey:
    """An expanded key of the engine ``pure``.  See ``ExpandedKey``."""

    def __init__(self, key: bytes) -> None:
        check_key(key)
        key = bytes(key)
        words = set_encrypt_key(key, 8 * len(key)).rd_key
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
        iv_view, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
        work = self._encrypt_in_turn if count <= _FEW_BLOCKS else self._encrypt_side_by_side
        for first, end in pieces(count, _PIECE_SECTORS):
            place = slice(first * sector_size, end * sector_size)
            piece_ivs = bytes(iv_view[first * BLOCK_SIZE : end * BLOCK_SIZE])
            target[place] = work(piece_ivs, bytes(source[place]), sector_size)

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``."""
        count = check_run(ivs, src, dst, sector_size)
        iv_view, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
        for first, end in pieces(count, max(1, _PIECE_BLOCKS * BLOCK_SIZE // sector_size)):
            place = slice(first * sector_size, end * sector_size)
            piece_ivs = bytes(iv_view[first * BLOCK_SIZE : end * BLOCK_SIZE])
            target[place] = self._decrypt(piece_ivs, bytes(source[place]), sector_size)

    def ecb_encrypt(self, src: ReadBuffer, dst: WriteBuffer) -> None:
        """Encrypt every block of ``src`` into ``dst``."""
        count = check_blocks(src, dst)
        source, target = byte_view(src), byte_view(dst)
        # Blocks on their own are sectors of one block with IVs of zeros.
        work = self._encrypt_in_turn if count <= _FEW_BLOCKS else self._encrypt_side_by_side
        for first, end in pieces(count, _PIECE_BLOCKS):
            place = slice(first * BLOCK_SIZE, end * BLOCK_SIZE)
            data = bytes(source[place])
            target[place] = work(bytes(len(data)), data, BLOCK_SIZE)

    def _encrypt_in_turn(self, ivs: bytes, data: bytes, sector_size: int) -> bytes:
        """Encrypt one block after the other: the way for few sectors."""
        out = []
        for position in range(0, len(data), BLOCK_SIZE):
            if position % sector_size == 0:
                iv = position // sector_size * BLOCK_SIZE
                chain = int.from_bytes(ivs[iv : iv + BLOCK_SIZE], "little")
            block = int.from_bytes(data[position : position + BLOCK_SIZE], "little")
            chain = pure_block.encrypt(block ^ chain, self._block_keys)
            out.append(chain.to_bytes(BLOCK_SIZE, "little"))
        return b"".join(out)

    def _encrypt_side_by_side(self, ivs: bytes, data: bytes, sector_size: int) -> bytearray:
        """Encrypt block 0 of all sectors, then block 1 of all, and so on."""
        sectors = len(data) // sector_size
        schedule = self._schedule(sectors)
        step = 4 * sectors  # bytes of a row that are one block of every sector
        rows = pure_rows.split(data, sector_size)
        chain = pure_rows.to_state(pure_rows.split(ivs, BLOCK_SIZE))
        out: list[list[bytes]] = []
        for start in range(0, len(data) // 4, step):
            blocks = pure_rows.to_state([row[start : start + step] for row in rows])
            chain = pure_rows.encrypt(pure_rows.xor(blocks, chain), schedule)
            out.append(pure_rows.from_state(chain, sectors))
        return pure_rows.join([b"".join(row) for row in zip(*out, strict=True)], sector_size)

    def _decrypt(self, ivs: bytes, data: bytes, sector_size: int) -> bytearray:
        """Decrypt all blocks of all sectors at once."""
        # What each block is XORed with: the block before it, or the IV of its sector.
        before = bytearray(BLOCK_SIZE) + data[:-BLOCK_SIZE]
        for i in range(BLOCK_SIZE):
            before[i::sector_size] = ivs[i::BLOCK_SIZE]
        blocks = len(data) // BLOCK_SIZE
        state = pure_rows.to_state(pure_rows.split(data, BLOCK_SIZE))
        mask = pure_rows.to_state(pure_rows.split(before, BLOCK_SIZE))
        state = pure_rows.xor(pure_rows.decrypt(state, self._schedule(blocks)), mask)
        return pure_rows.join(pure_rows.from_state(state, blocks), BLOCK_SIZE)

    def _schedule(self, blocks: int) -> pure_rows.RowSchedule:
        """The round keys spread over ``blocks`` blocks; those of the last few sizes are kept.

        Threads may meet here: then a schedule is made twice, and both are the same.
        """
        schedule = self._schedules.get(blocks)
        if schedule is None:
            schedule = pure_rows.row_schedule(self._round_keys, blocks)
            if len(self._schedules) >= _SCHEDULES_KEPT:
                self._schedules = {}
            self._schedules[blocks] = schedule
        return schedule


class PureEngine:
    """See ``Engine``."""

    name = "pure"

    def expand_key(self, key: bytes) -> PureKey:
        """Make the key schedule.  Raises ArgumentError for a key of another length."""
        return PureKey(key)


def load() -> PureEngine:
    """The engine.  It works everywhere."""
    return PureEngine()
