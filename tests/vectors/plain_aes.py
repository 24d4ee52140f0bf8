"""AES as FIPS-197 writes it: byte by byte, one step after the other, every step kept.

Made to compute the tables of appendices A to C.  On purpose it shares nothing with
``qcow2crypt.reference``: no T-tables, another way to the S-box, bytes in place of words.

Knows nothing of files.  Follows FIPS-197, sections 4, 5.1, 5.2 and 5.3.5.
"""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[int, str, bytes]  # round, name of the step in appendix C, the 16 bytes


def times(a: int, b: int) -> int:
    """Carry-less product, then division by 0x11b, the highest bit first."""
    product = 0
    for bit in range(8):
        product ^= (a << bit) * (b >> bit & 1)
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << bit - 8
    return product


def _substitute(byte: int) -> int:
    """Equation 5.1, bit by bit; the inverse by trying all bytes."""
    inverse = next((b for b in range(256) if times(byte, b) == 1), 0)
    bits = [inverse >> i & 1 for i in range(8)]
    result = 0
    for i in range(8):
        bit = bits[i] ^ bits[(i + 4) % 8] ^ bits[(i + 5) % 8] ^ bits[(i + 6) % 8]
        bit ^= bits[(i + 7) % 8] ^ (0x63 >> i & 1)
        result |= bit << i
    return result


SBOX = bytes(_substitute(byte) for byte in range(256))
INVERSE_SBOX = bytes(SBOX.index(byte) for byte in range(256))


def sub_bytes(state: bytes, box: bytes = SBOX) -> bytes:
    return bytes(box[byte] for byte in state)


def shift_rows(state: bytes, step: int = 1) -> bytes:
    """Row r of column c comes from column c + r; with step -1 from column c - r."""
    return bytes(state[4 * ((c + step * r) % 4) + r] for c in range(4) for r in range(4))


def mix_columns(state: bytes, row: Sequence[int] = (2, 3, 1, 1)) -> bytes:
    """Each column times the matrix whose first row is ``row``."""
    mixed = bytearray(16)
    for c in range(4):
        for r in range(4):
            for k in range(4):
                mixed[4 * c + r] ^= times(row[(k - r) % 4], state[4 * c + k])
    return bytes(mixed)


def add_round_key(state: bytes, round_key: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(state, round_key, strict=True))


def inverse_mix_columns(state: bytes) -> bytes:
    return mix_columns(state, (14, 11, 13, 9))


def key_expansion(key: bytes) -> list[bytes]:
    """The words w[0], w[1], ... of 4 bytes each."""
    nk = len(key) // 4
    words = [key[4 * i : 4 * i + 4] for i in range(nk)]
    power = 1
    for i in range(nk, 4 * (nk + 7)):
        temp = words[-1]
        if i % nk == 0:
            temp = sub_bytes(temp[1:] + temp[:1])
            temp = bytes([temp[0] ^ power]) + temp[1:]
            power = times(power, 2)
        elif nk > 6 and i % nk == 4:
            temp = sub_bytes(temp)
        words.append(add_round_key(temp, words[i - nk]))
    return words


def _round_keys(key: bytes) -> list[bytes]:
    words = key_expansion(key)
    return [b"".join(words[i : i + 4]) for i in range(0, len(words), 4)]


def cipher(block: bytes, key: bytes) -> list[Row]:
    """Every line of CIPHER (ENCRYPT), in the printed order."""
    keys = _round_keys(key)
    last = len(keys) - 1
    rows: list[Row] = [(0, "input", block), (0, "k_sch", keys[0])]
    state = add_round_key(block, keys[0])
    for r in range(1, last + 1):
        rows.append((r, "start", state))
        rows.append((r, "s_box", state := sub_bytes(state)))
        rows.append((r, "s_row", state := shift_rows(state)))
        if r < last:
            rows.append((r, "m_col", state := mix_columns(state)))
        rows.append((r, "k_sch", keys[r]))
        state = add_round_key(state, keys[r])
    rows.append((last, "output", state))
    return rows


def equivalent_inverse_cipher(block: bytes, key: bytes) -> list[Row]:
    """Every line of EQUIVALENT INVERSE CIPHER (DECRYPT), in the printed order."""
    first, *inner, end = reversed(_round_keys(key))
    keys = [first, *map(inverse_mix_columns, inner), end]
    last = len(keys) - 1
    rows: list[Row] = [(0, "iinput", block), (0, "ik_sch", keys[0])]
    state = add_round_key(block, keys[0])
    for r in range(1, last + 1):
        rows.append((r, "istart", state))
        rows.append((r, "is_box", state := sub_bytes(state, INVERSE_SBOX)))
        rows.append((r, "is_row", state := shift_rows(state, -1)))
        if r < last:
            rows.append((r, "im_col", state := inverse_mix_columns(state)))
        rows.append((r, "ik_sch", keys[r]))
        state = add_round_key(state, keys[r])
    rows.append((last, "ioutput", state))
    return rows
