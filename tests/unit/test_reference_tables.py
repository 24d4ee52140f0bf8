"""The computed tables are those that FIPS-197 prints and defines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from vectors import plain_aes

from qcow2crypt.reference import tables

FIPS = vectors.load("fips197")


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        (0x57, 0x83, 0xC1),  # section 4.2
        (0x57, 0x02, 0xAE),  # section 4.2.1, and on
        (0x57, 0x04, 0x47),
        (0x57, 0x08, 0x8E),
        (0x57, 0x10, 0x07),
        (0x57, 0x13, 0xFE),
    ],
)
def test_products_printed_in_the_standard(a: int, b: int, product: int) -> None:
    assert tables.gf_multiply(a, b) == tables.gf_multiply(b, a) == product


def test_every_product_as_by_long_division() -> None:
    for a in range(256):
        for b in range(a, 256):
            assert tables.gf_multiply(a, b) == plain_aes.times(a, b), (a, b)


def test_sbox_as_printed() -> None:
    assert bytes(tables.sbox).hex() == FIPS["sbox"]


def test_inverse_sbox_as_printed() -> None:
    assert bytes(tables.isbox).hex() == FIPS["inverse_sbox"]


def test_round_constants() -> None:
    top_bytes = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36)
    assert tables.rcon == tuple(byte << 24 for byte in top_bytes)


@pytest.mark.parametrize("row", range(4))
def test_t_table_is_sub_bytes_then_mix_columns_of_one_byte(row: int) -> None:
    table = (tables.Te0, tables.Te1, tables.Te2, tables.Te3)[row]
    assert len(table) == 256
    for byte in range(256):
        state = bytearray(16)
        state[row] = plain_aes.SBOX[byte]
        column = plain_aes.mix_columns(bytes(state))[:4]
        assert table[byte].to_bytes(4, "big") == column, byte


@pytest.mark.parametrize("row", range(4))
def test_inverse_t_table_is_the_same_backwards(row: int) -> None:
    table = (tables.Td0, tables.Td1, tables.Td2, tables.Td3)[row]
    assert len(table) == 256
    for byte in range(256):
        state = bytearray(16)
        state[row] = plain_aes.INVERSE_SBOX[byte]
        column = plain_aes.inverse_mix_columns(bytes(state))[:4]
        assert table[byte].to_bytes(4, "big") == column, byte


def test_last_round_tables_hold_the_s_boxes_four_times() -> None:
    assert [word.to_bytes(4, "big") for word in tables.Te4] == [
        bytes([byte] * 4) for byte in plain_aes.SBOX
    ]
    assert [word.to_bytes(4, "big") for word in tables.Td4] == [
        bytes([byte] * 4) for byte in plain_aes.INVERSE_SBOX
    ]


@given(st.binary(min_size=4, max_size=4))
def test_imc_is_inverse_mix_columns(column: bytes) -> None:
    expected = plain_aes.inverse_mix_columns(column + bytes(12))[:4]
    assert tables.imc(int.from_bytes(column, "big")).to_bytes(4, "big") == expected
