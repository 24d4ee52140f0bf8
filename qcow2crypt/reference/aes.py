"""2 of 5.  AES: one block of 16 bytes, to and fro.

The state of AES is 4 rows of 4 bytes, filled column by column.  Here a column is one 32-bit word
with row 0 on top, so the state is four words s0 to s3.  A round of FIPS-197 has four steps:

    SubBytes      each byte goes through the S-box
    ShiftRows     row i turns i places left: column j gets its row i from column j + i (mod 4)
    MixColumns    each column is multiplied by a matrix
    AddRoundKey   each column is XORed with a word of the key schedule

SubBytes works byte by byte and MixColumns is linear.  So a new column is the XOR of what its
four bytes become, and that is looked up in the T-tables, with ShiftRows in the choice of words:

    new s_j = Te0[row 0 of s_j] ^ Te1[row 1 of s_j+1] ^ Te2[row 2 of s_j+2]
              ^ Te3[row 3 of s_j+3] ^ round key word

Appendix C.1 as a check: round 1 starts with 00102030 40506070 8090a0b0 c0d0e0f0, and the first
column after MixColumns is 5f726415:

    >>> hex(Te0[0x00] ^ Te1[0x50] ^ Te2[0xA0] ^ Te3[0xF0])
    '0x5f726415'

The way back is the *equivalent inverse cipher* of section 5.3.5: the same shape with the inverse
tables, rows turning right, and round keys that went through InvMixColumns beforehand.

Knows blocks and keys; knows no modes, IVs or sectors.  Follows FIPS-197 (2001).  The functions
are named and built like those of the classic aes.c that QEMU once had; there a loop pass did two
rounds, and numbers stood for errors.  Table look-ups take a time that depends on the data: this
code leaks its key to whoever can measure that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .tables import Td0, Td1, Td2, Td3, Td4, Te0, Te1, Te2, Te3, Te4, imc, rcon, rotate_right

BLOCK_SIZE = 16
ROUNDS = {128: 10, 192: 12, 256: 14}  # key bits to rounds, figure 4

_STATE = struct.Struct(">4I")  # 16 bytes, four big-endian words


@dataclass(frozen=True, slots=True)
class AesKey:
    """A key schedule: ``rd_key`` holds 4 * (rounds + 1) words, four for each round key.

    An encryption and a decryption schedule look alike; use each in its own direction.
    ``rd_key`` holds the key itself, so it is not in the repr.
    """

    rd_key: tuple[int, ...] = field(repr=False)
    rounds: int


@dataclass(frozen=True, slots=True)
class RoundState:
    """What a watcher of ``encrypt`` and ``decrypt`` sees, in the words of FIPS-197, appendix C.

    ``step`` is "input", "start" or "output" when encrypting; "iinput", "istart" or "ioutput"
    when decrypting, and then the values are those listed as EQUIVALENT INVERSE CIPHER.
    ``state`` has 16 bytes.  The steps inside a round are one table look-up here and show nothing
    in between.  ``str()`` gives the line as the appendix prints it.
    """

    round: int
    step: str
    state: bytes

    def __str__(self) -> str:
        return f"round[{self.round:2}].{self.step:<8} {self.state.hex()}"


RoundWatcher = Callable[[RoundState], None]


def _look_up(table: tuple[int, ...], a: int, b: int, c: int, d: int) -> int:
    """A word of row 0 of ``a``, row 1 of ``b``, row 2 of ``c``, row 3 of ``d``, each looked up.

    ``table`` is Te4 or Td4: these have the substituted byte in all four places, a mask picks one.
    """
    return (
        table[a >> 24] & 0xFF000000
        ^ table[b >> 16 & 0xFF] & 0x00FF0000
        ^ table[c >> 8 & 0xFF] & 0x0000FF00
        ^ table[d & 0xFF] & 0x000000FF
    )


def _columns(block: bytes) -> tuple[int, ...]:
    """The four words of a block."""
    if len(block) != BLOCK_SIZE:
        raise ValueError(f"an AES block has {BLOCK_SIZE} bytes, not {len(block)}")
    return _STATE.unpack(block)


def set_encrypt_key(user_key: bytes, bits: int) -> AesKey:
    """The key schedule for ``encrypt`` (KeyExpansion, section 5.2).

    Raises ValueError unless ``bits`` is 128, 192 or 256 and ``user_key`` has bits / 8 bytes.

    >>> key = set_encrypt_key(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), 128)
    >>> [f"{w:08x}" for w in key.rd_key[4:8]]  # appendix A.1, w4 to w7
    ['a0fafe17', '88542cb1', '23a33939', '2a6c7605']
    """
    if bits not in ROUNDS:
        raise ValueError(f"an AES key has 128, 192 or 256 bits, not {bits}")
    if len(user_key) * 8 != bits:
        raise ValueError(f"a key of {bits} bits has {bits // 8} bytes, not {len(user_key)}")
    rounds = ROUNDS[bits]
    words = [int.from_bytes(user_key[i : i + 4], "big") for i in range(0, len(user_key), 4)]
    nk = len(words)  # the key's own length in words: 4, 6 or 8
    for i in range(nk, 4 * (rounds + 1)):
        temp = words[i - 1]
        if i % nk == 0:
            temp = rotate_right(temp, 24)  # RotWord: one byte to the left
            temp = _look_up(Te4, temp, temp, temp, temp)  # SubWord
            temp ^= rcon[i // nk - 1]
        elif nk == 8 and i % nk == 4:  # long keys have one more SubWord half way
            temp = _look_up(Te4, temp, temp, temp, temp)
        words.append(words[i - nk] ^ temp)
    return AesKey(tuple(words), rounds)


def set_decrypt_key(user_key: bytes, bits: int) -> AesKey:
    """The key schedule for ``decrypt``: round keys in reverse, the inner ones through imc.

    InvMixColumns is linear, so it may come before AddRoundKey if the round key goes through it
    too.  Then it stands next to InvSubBytes, and the two can be one table (section 5.3.5).
    Raises as ``set_encrypt_key``.
    """
    key = set_encrypt_key(user_key, bits)
    words: list[int] = []
    for r in range(key.rounds, -1, -1):
        round_key = key.rd_key[4 * r : 4 * r + 4]
        words += round_key if r in (0, key.rounds) else map(imc, round_key)
    return AesKey(tuple(words), key.rounds)


def encrypt(block: bytes, key: AesKey, watch: RoundWatcher | None = None) -> bytes:
    """Encrypt one block with a schedule of ``set_encrypt_key``.

    ``watch`` is called with every round state.  Raises ValueError unless ``block`` has 16 bytes.

    >>> key = set_encrypt_key(bytes(range(16)), 128)
    >>> block = encrypt(bytes.fromhex("00112233445566778899aabbccddeeff"), key)
    >>> block.hex()  # appendix C.1
    '69c4e0d86a7b0430d8cdb78070b4c55a'
    """
    s0, s1, s2, s3 = _columns(block)
    rk = key.rd_key
    if watch is not None:
        watch(RoundState(0, "input", block))
    s0, s1, s2, s3 = s0 ^ rk[0], s1 ^ rk[1], s2 ^ rk[2], s3 ^ rk[3]
    for r in range(1, key.rounds):
        if watch is not None:
            watch(RoundState(r, "start", _STATE.pack(s0, s1, s2, s3)))
        k = 4 * r
        s0, s1, s2, s3 = (
            Te0[s0 >> 24] ^ Te1[s1 >> 16 & 0xFF] ^ Te2[s2 >> 8 & 0xFF] ^ Te3[s3 & 0xFF] ^ rk[k],
            Te0[s1 >> 24] ^ Te1[s2 >> 16 & 0xFF] ^ Te2[s3 >> 8 & 0xFF] ^ Te3[s0 & 0xFF] ^ rk[k + 1],
            Te0[s2 >> 24] ^ Te1[s3 >> 16 & 0xFF] ^ Te2[s0 >> 8 & 0xFF] ^ Te3[s1 & 0xFF] ^ rk[k + 2],
            Te0[s3 >> 24] ^ Te1[s0 >> 16 & 0xFF] ^ Te2[s1 >> 8 & 0xFF] ^ Te3[s2 & 0xFF] ^ rk[k + 3],
        )
    if watch is not None:
        watch(RoundState(key.rounds, "start", _STATE.pack(s0, s1, s2, s3)))
    k = 4 * key.rounds
    output = _STATE.pack(  # the last round has no MixColumns
        _look_up(Te4, s0, s1, s2, s3) ^ rk[k],
        _look_up(Te4, s1, s2, s3, s0) ^ rk[k + 1],
        _look_up(Te4, s2, s3, s0, s1) ^ rk[k + 2],
        _look_up(Te4, s3, s0, s1, s2) ^ rk[k + 3],
    )
    if watch is not None:
        watch(RoundState(key.rounds, "output", output))
    return output


def decrypt(block: bytes, key: AesKey, watch: RoundWatcher | None = None) -> bytes:
    """Decrypt one block with a schedule of ``set_decrypt_key``: ``encrypt`` in a mirror.

    ``watch`` is called with every round state.  Raises ValueError unless ``block`` has 16 bytes.

    >>> key = set_decrypt_key(bytes(range(16)), 128)
    >>> block = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    >>> block = decrypt(block, key, watch=lambda seen: seen.round < 2 and print(seen))
    round[ 0].iinput   69c4e0d86a7b0430d8cdb78070b4c55a
    round[ 1].istart   7ad5fda789ef4e272bca100b3d9ff59f
    >>> block.hex()
    '00112233445566778899aabbccddeeff'
    """
    s0, s1, s2, s3 = _columns(block)
    rk = key.rd_key
    if watch is not None:
        watch(RoundState(0, "iinput", block))
    s0, s1, s2, s3 = s0 ^ rk[0], s1 ^ rk[1], s2 ^ rk[2], s3 ^ rk[3]
    for r in range(1, key.rounds):
        if watch is not None:
            watch(RoundState(r, "istart", _STATE.pack(s0, s1, s2, s3)))
        k = 4 * r
        s0, s1, s2, s3 = (
            Td0[s0 >> 24] ^ Td1[s3 >> 16 & 0xFF] ^ Td2[s2 >> 8 & 0xFF] ^ Td3[s1 & 0xFF] ^ rk[k],
            Td0[s1 >> 24] ^ Td1[s0 >> 16 & 0xFF] ^ Td2[s3 >> 8 & 0xFF] ^ Td3[s2 & 0xFF] ^ rk[k + 1],
            Td0[s2 >> 24] ^ Td1[s1 >> 16 & 0xFF] ^ Td2[s0 >> 8 & 0xFF] ^ Td3[s3 & 0xFF] ^ rk[k + 2],
            Td0[s3 >> 24] ^ Td1[s2 >> 16 & 0xFF] ^ Td2[s1 >> 8 & 0xFF] ^ Td3[s0 & 0xFF] ^ rk[k + 3],
        )
    if watch is not None:
        watch(RoundState(key.rounds, "istart", _STATE.pack(s0, s1, s2, s3)))
    k = 4 * key.rounds
    output = _STATE.pack(  # the last round has no InvMixColumns
        _look_up(Td4, s0, s3, s2, s1) ^ rk[k],
        _look_up(Td4, s1, s0, s3, s2) ^ rk[k + 1],
        _look_up(Td4, s2, s1, s0, s3) ^ rk[k + 2],
        _look_up(Td4, s3, s2, s1, s0) ^ rk[k + 3],
    )
    if watch is not None:
        watch(RoundState(key.rounds, "ioutput", output))
    return output
