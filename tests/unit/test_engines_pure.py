"""The parts of the engine ``pure``: many blocks in four integers, one block in one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.engines import pure, pure_block, pure_rows
from qcow2crypt.reference.aes import encrypt, set_encrypt_key
from qcow2crypt.testing import strategies

ROUND_KEYS = [random.Random(round_).randbytes(16) for round_ in range(11)]


@given(st.binary(min_size=16, max_size=16), strategies.keys())
def test_one_block_is_as_in_the_textbook(block: bytes, user_key: bytes) -> None:
    key = pure.PureKey(user_key)
    out = pure_block.encrypt(int.from_bytes(block, "little"), key._block_keys)
    expected = encrypt(block, set_encrypt_key(user_key, 8 * len(user_key)))
    assert out.to_bytes(16, "little") == expected


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 16, 33, 100])
def test_many_blocks_are_as_one(blocks: int) -> None:
    data = random.Random(blocks).randbytes(16 * blocks)
    schedule = pure_rows.row_schedule(ROUND_KEYS, blocks)
    state = pure_rows.to_state(pure_rows.split(data, 16))
    out = pure_rows.encrypt(state, schedule)
    together = pure_rows.join(pure_rows.from_state(out, blocks), 16)
    block_keys = [int.from_bytes(key, "little") for key in ROUND_KEYS]
    for i in range(blocks):
        block = int.from_bytes(data[16 * i : 16 * i + 16], "little")
        one = pure_block.encrypt(block, block_keys).to_bytes(16, "little")
        assert together[16 * i : 16 * i + 16] == one
    assert pure_rows.decrypt(out, schedule) == state


def test_rows_are_those_of_the_standard() -> None:
    # FIPS-197, figure 3: byte i of a block is in row i % 4, column i // 4.
    two_blocks = bytes(range(16)) + bytes(range(100, 116))
    rows = pure_rows.split(two_blocks, 16)
    assert [list(row) for row in rows] == [
        [0, 100, 4, 104, 8, 108, 12, 112],
        [1, 101, 5, 105, 9, 109, 13, 113],
        [2, 102, 6, 106, 10, 110, 14, 114],
        [3, 103, 7, 107, 11, 111, 15, 115],
    ]


@given(
    units=st.integers(1, 40),
    unit=st.sampled_from([16, 32, 48, 112, 512]),
    seed=st.integers(0, 2**32),
)
def test_join_undoes_split(units: int, unit: int, seed: int) -> None:
    data = random.Random(seed).randbytes(units * unit)
    rows = pure_rows.split(data, unit)
    assert pure_rows.join(rows, unit) == data
    # Block i of every sector lies in one piece of each row, and is what split gives of it alone.
    for i in range(unit // 16):
        block_of_each = b"".join(
            data[start + 16 * i : start + 16 * i + 16] for start in range(0, len(data), unit)
        )
        piece = slice(4 * units * i, 4 * units * (i + 1))
        assert [row[piece] for row in rows] == pure_rows.split(block_of_each, 16)


def test_few_schedules_are_kept() -> None:
    key = pure.PureKey(bytes(16))
    for count in range(4, 30):
        key.cbc_encrypt(bytes(16 * count), bytes(512 * count), bytearray(512 * count))
        assert 1 <= len(key._schedules) <= pure._SCHEDULES_KEPT


def test_pieces_bound_the_size_of_a_schedule() -> None:
    key = pure.PureKey(bytes(16))
    count = 3000
    buffer = bytearray(512 * count)
    key.cbc_decrypt(bytes(16 * count), buffer, buffer)
    key.cbc_encrypt(bytes(16 * count), buffer, buffer)
    key.ecb_encrypt(buffer, buffer)
    assert max(key._schedules) <= pure._PIECE_BLOCKS


def test_a_schedule_shows_no_key() -> None:
    schedule = pure_rows.row_schedule([b"SECRET ROUND KEY"], 3)
    assert repr(schedule) == "RowSchedule(blocks=3)"
