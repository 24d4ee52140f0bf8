"""AES on many blocks at once, with four big integers for a state.

FIPS-197 draws the state of one block as 4 rows of 4 bytes, filled column by column: byte i of
the block is in row i % 4, column i // 4.  Here row r of *all* n blocks is one integer of 4 * n
bytes, least significant first: column 0 of every block, then column 1 of every block, and so on.
A step of AES is then a few operations of the interpreter, however many blocks there are:

    SubBytes     bytes.translate, with the S-box as its table
    ShiftRows    a slice: to turn a row by c columns is to turn its bytes by c * n
    MixColumns   XORs of rows, and a doubling of all bytes of a row at once
    AddRoundKey  XOR with a row in which each byte of the round key stands n times

Knows blocks and round keys; knows no modes, IVs or sectors.  Follows FIPS-197, sections 5.1 and
5.3 (the plain inverse cipher).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from qcow2crypt.reference.tables import isbox, sbox
from qcow2crypt.units import BLOCK_SIZE

Rows: TypeAlias = tuple[int, int, int, int]

_SBOX, _INVERSE_SBOX = bytes(sbox), bytes(isbox)


@dataclass(frozen=True, slots=True)
class RowSchedule:
    """The round keys for a state of ``blocks`` blocks, and what else depends on that number.

    ``top_bits`` is a row with the top bit of every byte set.
    """

    blocks: int
    round_keys: tuple[Rows, ...] = field(repr=False)
    top_bits: int = field(repr=False)


def row_schedule(round_keys: Sequence[bytes], blocks: int) -> RowSchedule:
    """Spread round keys of 16 bytes each over a state of ``blocks`` blocks."""
    rows = tuple(to_state(split(round_key * blocks, BLOCK_SIZE)) for round_key in round_keys)
    return RowSchedule(blocks, rows, int.from_bytes(b"\x80" * (4 * blocks), "little"))


def split(data: bytes | bytearray, unit: int) -> list[bytes]:
    """Part data of n units into its four rows, each of them column by column.

    ``unit`` is the size in bytes of a block or of a sector; a sector counts as a block with more
    columns.  Each row has n bytes of column 0, one from each unit, then n of column 1, and so on.
    So the rows of block i of every unit are the bytes from 4 * n * i on.
    """
    return [_transpose(data[row::4], unit // 4) for row in range(4)]


def join(rows: Sequence[bytes], unit: int) -> bytearray:
    """Put data together again from what ``split`` gave."""
    data = bytearray(4 * len(rows[0]))
    units = len(data) // unit
    for row, columns in enumerate(rows):
        data[row::4] = _transpose(columns, units)
    return data


def _transpose(matrix: bytes | bytearray, width: int) -> bytes:
    """Turn a matrix, given line by line, so that its columns become its lines."""
    height = len(matrix) // width
    if width <= height:
        return b"".join([matrix[column::width] for column in range(width)])
    turned = bytearray(len(matrix))
    for line in range(height):
        turned[line::height] = matrix[line * width : (line + 1) * width]
    return bytes(turned)


def to_state(rows: Sequence[bytes]) -> Rows:
    """Four rows as the integers to compute with."""
    r0, r1, r2, r3 = rows
    from_bytes = int.from_bytes
    return (
        from_bytes(r0, "little"),
        from_bytes(r1, "little"),
        from_bytes(r2, "little"),
        from_bytes(r3, "little"),
    )


def from_state(state: Rows, blocks: int) -> list[bytes]:
    """The rows of a state of ``blocks`` blocks."""
    return [row.to_bytes(4 * blocks, "little") for row in state]


def xor(a: Rows, b: Rows) -> Rows:
    """AddRoundKey, and the XOR of CBC."""
    return a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]


def encrypt(state: Rows, schedule: RowSchedule) -> Rows:
    """Encrypt every block of a state."""
    n, top_bits = schedule.blocks, schedule.top_bits
    first, *inner, last = schedule.round_keys
    state = xor(state, first)
    for k0, k1, k2, k3 in inner:
        a0, a1, a2, a3 = _substitute_and_shift(state, n)
        # MixColumns: row r becomes 2 a[r] + 3 a[r+1] + a[r+2] + a[r+3], where + is XOR.  That
        # is 2 (a[r] + a[r+1]) + a[r] + the sum of all four.
        a01, a12, a23, a30 = a0 ^ a1, a1 ^ a2, a2 ^ a3, a3 ^ a0
        total = a01 ^ a23
        state = (
            _double(a01, top_bits) ^ a0 ^ total ^ k0,
            _double(a12, top_bits) ^ a1 ^ total ^ k1,
            _double(a23, top_bits) ^ a2 ^ total ^ k2,
            _double(a30, top_bits) ^ a3 ^ total ^ k3,
        )
    return xor(_substitute_and_shift(state, n), last)


def decrypt(state: Rows, schedule: RowSchedule) -> Rows:
    """Decrypt every block of a state."""
    n, top_bits = schedule.blocks, schedule.top_bits
    first, *inner, last = schedule.round_keys
    state = xor(state, last)
    for round_key in reversed(inner):
        a0, a1, a2, a3 = xor(_shift_and_substitute_back(state, n), round_key)
        # InvMixColumns is MixColumns after adding 4 (a[r] + a[r+2]) to each row r.
        even = _double(_double(a0 ^ a2, top_bits), top_bits)
        odd = _double(_double(a1 ^ a3, top_bits), top_bits)
        a0, a1, a2, a3 = a0 ^ even, a1 ^ odd, a2 ^ even, a3 ^ odd
        a01, a12, a23, a30 = a0 ^ a1, a1 ^ a2, a2 ^ a3, a3 ^ a0
        total = a01 ^ a23
        state = (
            _double(a01, top_bits) ^ a0 ^ total,
            _double(a12, top_bits) ^ a1 ^ total,
            _double(a23, top_bits) ^ a2 ^ total,
            _double(a30, top_bits) ^ a3 ^ total,
        )
    return xor(_shift_and_substitute_back(state, n), first)


def _substitute_and_shift(state: Rows, n: int) -> Rows:
    """SubBytes and ShiftRows: row r turns by r columns, so that column r comes first."""
    size, from_bytes = 4 * n, int.from_bytes
    b0 = state[0].to_bytes(size, "little").translate(_SBOX)
    b1 = state[1].to_bytes(size, "little").translate(_SBOX)
    b2 = state[2].to_bytes(size, "little").translate(_SBOX)
    b3 = state[3].to_bytes(size, "little").translate(_SBOX)
    return (
        from_bytes(b0, "little"),
        from_bytes(b1[n:] + b1[:n], "little"),
        from_bytes(b2[2 * n :] + b2[: 2 * n], "little"),
        from_bytes(b3[3 * n :] + b3[: 3 * n], "little"),
    )


def _shift_and_substitute_back(state: Rows, n: int) -> Rows:
    """InvShiftRows and InvSubBytes."""
    size, from_bytes = 4 * n, int.from_bytes
    b0 = state[0].to_bytes(size, "little").translate(_INVERSE_SBOX)
    b1 = state[1].to_bytes(size, "little").translate(_INVERSE_SBOX)
    b2 = state[2].to_bytes(size, "little").translate(_INVERSE_SBOX)
    b3 = state[3].to_bytes(size, "little").translate(_INVERSE_SBOX)
    return (
        from_bytes(b0, "little"),
        from_bytes(b1[3 * n :] + b1[: 3 * n], "little"),
        from_bytes(b2[2 * n :] + b2[: 2 * n], "little"),
        from_bytes(b3[n:] + b3[:n], "little"),
    )


def _double(row: int, top_bits: int) -> int:
    """Every byte of a row times x in GF(2^8): shift left; x^8, if it comes out, is 0x1b."""
    overflow = row & top_bits
    return (row ^ overflow) << 1 ^ (overflow >> 7) * 0x1B
