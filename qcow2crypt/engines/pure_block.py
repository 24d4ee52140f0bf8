"""AES on one block, with one 128-bit integer for a state.

Byte i of the block is bits 8 * i to 8 * i + 7: a column of the state of FIPS-197 is 32 bits, with
row 0 lowest.  ``pure_rows`` is far faster on many blocks, but CBC encryption of one sector has
only one block at a time.  For that, this is quicker than the usual tables of words:

    SubBytes     bytes.translate, with the S-box as its table
    ShiftRows    byte i comes from byte 5 * i (mod 16): every fifth byte of five copies in a row
    MixColumns   XORs of the state and its copies with the rows of each column turned
    AddRoundKey  XOR

Knows a block and round keys; knows no modes, IVs or sectors.  Follows FIPS-197, section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcow2crypt.reference.tables import sbox
from qcow2crypt.units import BLOCK_SIZE

_SBOX = bytes(sbox)


def _mask(column: bytes) -> int:
    return int.from_bytes(column * 4, "little")


_TOP_BITS = _mask(b"\x80\x80\x80\x80")
_ROW_0 = _mask(b"\xff\0\0\0")
_ROWS_0_TO_1 = _mask(b"\xff\xff\0\0")
_ROWS_0_TO_2 = _mask(b"\xff\xff\xff\0")


def encrypt(block: int, round_keys: Sequence[int]) -> int:
    """Encrypt a block.  It and the round keys are integers, least significant byte first."""
    first, *inner, last = round_keys
    # Globals are slower than locals, and this loop runs 320 times per sector.
    from_bytes, s_box, top_bits = int.from_bytes, _SBOX, _TOP_BITS
    row_0, rows_0_to_1, rows_0_to_2 = _ROW_0, _ROWS_0_TO_1, _ROWS_0_TO_2
    state = block ^ first
    for round_key in inner:
        substituted = state.to_bytes(BLOCK_SIZE, "little").translate(s_box)
        a = from_bytes((substituted * 5)[::5], "little")
        # MixColumns as in pure_rows: 2 (a[r] + a[r+1]) + a[r+1] + (a[r+2] + a[r+3]).
        turned = a >> 8 & rows_0_to_2 | (a & row_0) << 24
        pair = a ^ turned
        overflow = pair & top_bits
        state = (
            ((pair ^ overflow) << 1 ^ (overflow >> 7) * 0x1B)
            ^ turned
            ^ (pair >> 16 & rows_0_to_1)
            ^ (pair & rows_0_to_1) << 16
            ^ round_key
        )
    substituted = state.to_bytes(BLOCK_SIZE, "little").translate(s_box)
    return from_bytes((substituted * 5)[::5], "little") ^ last
