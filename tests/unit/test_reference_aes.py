"""One block: key schedules and rounds against FIPS-197, CAVP and two libraries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from support.vectors import Case
from vectors import two_libraries

from qcow2crypt.reference import aes

FIPS = vectors.load("fips197")
ECB = vectors.groups("cavp-ecb")
KEYS = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
BLOCKS = st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize("row", FIPS["key_expansion"], ids=lambda row: row["id"])
def test_encryption_schedule_is_that_of_appendix_a(row: dict[str, Any]) -> None:
    key = bytes.fromhex(row["key"])
    schedule = aes.set_encrypt_key(key, 8 * len(key))
    assert [f"{word:08x}" for word in schedule.rd_key] == row["words"]


@pytest.mark.parametrize(("bits", "rounds"), [(128, 10), (192, 12), (256, 14)])
def test_rounds_and_words(bits: int, rounds: int) -> None:
    for schedule in (
        aes.set_encrypt_key(bytes(bits // 8), bits),
        aes.set_decrypt_key(bytes(bits // 8), bits),
    ):
        assert schedule.rounds == rounds
        assert len(schedule.rd_key) == 4 * (rounds + 1)


@pytest.mark.parametrize("case", vectors.cases("fips197"), ids=lambda case: case.id)
def test_encryption_round_keys_are_the_printed_k_sch(case: Case) -> None:
    schedule = aes.set_encrypt_key(case.key, case.bits)
    assert _round_keys(schedule) == _printed(case.id, "k_sch")


@pytest.mark.parametrize("case", vectors.cases("fips197")[1:], ids=lambda case: case.id)
def test_decryption_round_keys_are_the_printed_ik_sch(case: Case) -> None:
    schedule = aes.set_decrypt_key(case.key, case.bits)
    assert _round_keys(schedule) == _printed(case.id, "ik_sch")


@pytest.mark.parametrize("case", vectors.cases("fips197"), ids=lambda case: case.id)
def test_examples_of_appendices_b_and_c(case: Case) -> None:
    _check_ecb(case)


@pytest.mark.parametrize("name", ECB)
def test_cavp_ecb(name: str) -> None:
    for case in ECB[name]:
        _check_ecb(case)


@given(KEYS, BLOCKS)
def test_any_block_as_in_two_libraries(key: bytes, block: bytes) -> None:
    bits = 8 * len(key)
    secret = aes.encrypt(block, aes.set_encrypt_key(key, bits))
    assert secret == two_libraries.encrypt(key, None, block)
    assert aes.decrypt(secret, aes.set_decrypt_key(key, bits)) == block


@pytest.mark.parametrize("bits", [0, 64, 127, 129, 512])
def test_key_lengths_that_aes_does_not_have(bits: int) -> None:
    for make in (aes.set_encrypt_key, aes.set_decrypt_key):
        with pytest.raises(ValueError, match=f"128, 192 or 256 bits, not {bits}"):
            make(bytes(bits // 8), bits)


@pytest.mark.parametrize("size", [0, 15, 17, 24])
def test_key_of_another_length_than_said(size: int) -> None:
    for make in (aes.set_encrypt_key, aes.set_decrypt_key):
        with pytest.raises(ValueError, match=f"128 bits has 16 bytes, not {size}"):
            make(bytes(size), 128)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_blocks_of_a_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"16 bytes, not {size}"):
        aes.encrypt(bytes(size), aes.set_encrypt_key(bytes(16), 128))
    with pytest.raises(ValueError, match=f"16 bytes, not {size}"):
        aes.decrypt(bytes(size), aes.set_decrypt_key(bytes(16), 128))


def test_the_repr_of_a_key_hides_it() -> None:
    key = aes.set_encrypt_key(b"\x41" * 16, 128)
    assert repr(key) == "AesKey(rounds=10)"


def test_errors_do_not_show_the_key() -> None:
    with pytest.raises(ValueError, match="bytes") as caught:
        aes.set_encrypt_key(b"very secret", 128)
    assert "secret" not in str(caught.value)


def _check_ecb(case: Case) -> None:
    """Every block on its own, in both directions."""
    encrypt_key = aes.set_encrypt_key(case.key, case.bits)
    decrypt_key = aes.set_decrypt_key(case.key, case.bits)
    for i in range(0, len(case.plaintext), 16):
        plaintext, ciphertext = case.plaintext[i : i + 16], case.ciphertext[i : i + 16]
        assert aes.encrypt(plaintext, encrypt_key) == ciphertext, case.id
        assert aes.decrypt(ciphertext, decrypt_key) == plaintext, case.id


def _round_keys(schedule: aes.AesKey) -> list[str]:
    words = "".join(f"{word:08x}" for word in schedule.rd_key)
    return [words[i : i + 32] for i in range(0, len(words), 32)]


def _printed(case: str, step: str) -> list[str]:
    rows = FIPS["traces"]
    return [row["state"] for row in rows if row["case"] == case and row["step"] == step]
