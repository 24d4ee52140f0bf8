"""Legacy qcow2 encryption as a whole: keys, sectors, sector numbers."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from vectors import two_libraries

from qcow2crypt.reference import decrypt_sectors, encrypt_sectors, passphrase_to_key

FILE = vectors.load("sectors")
LAST = 2**64 - 1
HUNTER2 = passphrase_to_key("hunter2")
KEYS = st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize("row", FILE["cases"], ids=lambda row: row["id"])
def test_sectors_of_the_vector_file(row: dict[str, str]) -> None:
    plaintext, ciphertext = bytes.fromhex(row["plaintext"]), bytes.fromhex(row["ciphertext"])
    key, sector = bytes.fromhex(row["key"]), int(row["sector"], 16)
    assert key == HUNTER2
    assert encrypt_sectors(plaintext, sector, key) == ciphertext
    assert decrypt_sectors(ciphertext, sector, key) == plaintext


@pytest.mark.parametrize("row", FILE["measured"], ids=lambda row: f"{row['case']}+{row['offset']}")
def test_bytes_that_qemu_was_seen_to_write(row: dict[str, Any]) -> None:
    (case,) = (case for case in FILE["cases"] if case["id"] == row["case"])
    secret = encrypt_sectors(bytes(512), int(case["sector"], 16), HUNTER2)
    assert secret.hex().startswith(row["ciphertext"], 2 * row["offset"])


@pytest.mark.parametrize("row", FILE["keys"], ids=lambda row: row["id"])
def test_passphrases_of_the_vector_file(row: dict[str, str | None]) -> None:
    assert row["bytes"] is not None
    data = bytes.fromhex(row["bytes"])
    assert passphrase_to_key(data).hex() == row["key"]
    if row["text"] is not None:
        assert row["text"].encode() == data
        assert passphrase_to_key(row["text"]).hex() == row["key"]


@given(st.binary(max_size=40))
def test_key_is_the_passphrase_cut_or_filled(passphrase: bytes) -> None:
    key = passphrase_to_key(passphrase)
    assert len(key) == 16
    assert key == passphrase[:16] + bytes(16 - len(passphrase[:16]))


@pytest.mark.parametrize("surrogate", [0xD800, 0xDCFF, 0xDFFF])
def test_text_without_a_utf8_form(surrogate: int) -> None:
    with pytest.raises(ValueError, match="give it as bytes") as caught:
        passphrase_to_key("opensesame" + chr(surrogate))
    error: BaseException | None = caught.value
    while error is not None:  # neither it nor what led to it holds the passphrase
        assert "opensesame" not in repr(error) + repr(vars(error))
        assert not isinstance(error, UnicodeError)
        error = error.__cause__ or error.__context__


@given(KEYS, st.integers(0, LAST - 3), st.integers(0, 4), st.randoms(use_true_random=False))
def test_a_run_is_its_sectors_one_by_one(
    key: bytes, first: int, count: int, random: Random
) -> None:
    data = random.randbytes(512 * count)
    secret = encrypt_sectors(data, first, key)
    for index in range(count):
        part = slice(512 * index, 512 * (index + 1))
        iv = (first + index).to_bytes(8, "little") + bytes(8)
        assert secret[part] == two_libraries.encrypt(key, iv, data[part])
        assert secret[part] == encrypt_sectors(data[part], first + index, key)
    assert decrypt_sectors(secret, first, key) == data


@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**63, LAST - 1])
def test_sector_numbers_up_to_64_bits(first: int) -> None:
    data = bytes(range(256)) * 4
    secret = encrypt_sectors(data, first, HUNTER2)
    assert decrypt_sectors(secret, first, HUNTER2) == data
    assert secret[:512] != secret[512:]


@pytest.mark.parametrize(
    ("first", "count"), [(-1, 1), (LAST, 2), (LAST + 1, 1), (LAST + 1, 0), (-1, 0), (LAST - 2, 4)]
)
def test_sector_numbers_beyond_64_bits(first: int, count: int) -> None:
    for run in (encrypt_sectors, decrypt_sectors):
        with pytest.raises(ValueError, match="are not all in 0 to"):
            run(bytes(512 * count), first, HUNTER2)


def test_the_last_sector_there_is() -> None:
    secret = encrypt_sectors(bytes(512), LAST, HUNTER2)
    assert secret == two_libraries.encrypt(HUNTER2, b"\xff" * 8 + bytes(8), bytes(512))


@pytest.mark.parametrize("sector_size", [16, 48, 512, 4096])
def test_sector_sizes(sector_size: int) -> None:
    data = bytes(i % 251 for i in range(2 * sector_size))
    secret = encrypt_sectors(data, 7, HUNTER2, sector_size=sector_size)
    for index in range(2):
        part = slice(index * sector_size, (index + 1) * sector_size)
        iv = (7 + index).to_bytes(16, "little")
        assert secret[part] == two_libraries.encrypt(HUNTER2, iv, data[part])
    assert decrypt_sectors(secret, 7, HUNTER2, sector_size=sector_size) == data


@pytest.mark.parametrize("sector_size", [0, -512, 8, 500])
def test_sector_sizes_that_cannot_be(sector_size: int) -> None:
    for run in (encrypt_sectors, decrypt_sectors):
        with pytest.raises(ValueError, match="not a positive multiple of 16"):
            run(bytes(4000), 0, HUNTER2, sector_size=sector_size)


@pytest.mark.parametrize("size", [1, 16, 511, 513])
def test_data_that_is_not_whole_sectors(size: int) -> None:
    for run in (encrypt_sectors, decrypt_sectors):
        with pytest.raises(ValueError, match=f"{size} bytes are not whole sectors of 512"):
            run(bytes(size), 0, HUNTER2)


@pytest.mark.parametrize("size", [0, 7, 15, 17, 64])
def test_keys_of_a_wrong_length(size: int) -> None:
    for run in (encrypt_sectors, decrypt_sectors):
        with pytest.raises(ValueError, match="128, 192 or 256 bits"):
            run(bytes(512), 0, bytes(size))


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("ivgen", ["plain", "plain64", "essiv:sha256"])
def test_other_keys_and_generators_go_to_and_fro(size: int, ivgen: str) -> None:
    key, data = bytes(range(size)), bytes(range(256)) * 4
    secret = encrypt_sectors(data, 2**40, key, ivgen=ivgen)
    assert decrypt_sectors(secret, 2**40, key, ivgen=ivgen) == data


def test_a_generator_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no IV generator 'essiv:md4'"):
        encrypt_sectors(bytes(512), 0, HUNTER2, ivgen="essiv:md4")


def test_every_kind_of_buffer() -> None:
    data = bytes(range(256)) * 2
    expected = encrypt_sectors(data, 3, HUNTER2)
    assert encrypt_sectors(bytearray(data), 3, HUNTER2) == expected
    assert encrypt_sectors(memoryview(data), 3, HUNTER2) == expected
    assert decrypt_sectors(memoryview(bytearray(expected)), 3, HUNTER2) == data


def test_a_wrong_key_is_not_noticed() -> None:
    secret = encrypt_sectors(bytes(512), 0, HUNTER2)
    assert decrypt_sectors(secret, 0, passphrase_to_key("hunter3")) != bytes(512)
