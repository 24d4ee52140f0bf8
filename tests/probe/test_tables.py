"""Tables of software AES are found in every form that they take in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.probe.tables import WATCHED, find_tables, watch_offset
from qcow2crypt.reference import tables

BYTES = {"S-box": tables.sbox, "inverse S-box": tables.isbox}
WORDS = ("Te0", "Te1", "Te2", "Te3", "Te4", "Td0", "Td1", "Td2", "Td3", "Td4")


@pytest.mark.parametrize("name", BYTES)
def test_tables_of_bytes(name: str) -> None:
    (found,) = find_tables(b"before" + bytes(BYTES[name]) + b"behind")
    assert (found.offset, found.name, found.vector) == (6, name, False)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("times", [1, 2])
def test_tables_of_words(name: str, order: str, times: int) -> None:
    words = getattr(tables, name)
    data = b"".join(word.to_bytes(4, "little")[:: 1 if order == "little" else -1] * times
                    for word in words)  # fmt: skip
    found = find_tables(b"x" * 64 + data)
    expected = name + (", doubled" if times == 2 else "")
    if order == "big" and not name.endswith("4"):
        expected += ", bytes turned"
    assert [(each.offset, each.name) for each in found] == [(64, expected)]


def test_a_watchpoint_is_aligned_and_in_the_table() -> None:
    for start in range(16):
        (found,) = find_tables(bytes(start) + bytes(tables.sbox))
        place = watch_offset(found)
        assert place % WATCHED == 0
        assert start <= place < start + 256 - WATCHED


@given(st.binary(max_size=500))
def test_no_table_in_noise(data: bytes) -> None:
    assert find_tables(data) == ()
