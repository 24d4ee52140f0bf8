"""From sector numbers to IVs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from vectors import two_libraries

from qcow2crypt.reference import ivgen

ROWS = vectors.load("sectors")["ivs"]
SECTORS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_ivs_of_the_vector_file(row: dict[str, str]) -> None:
    generate = ivgen.iv_generator(row["generator"], bytes.fromhex(row["key"]))
    assert generate(int(row["sector"], 16)).hex() == row["iv"]


def test_the_vector_file_has_a_row_for_every_generator() -> None:
    assert {row["generator"] for row in ROWS} == set(ivgen.IV_GENERATORS)


@given(SECTORS)
def test_plain64_is_the_number_little_endian(sector: int) -> None:
    assert int.from_bytes(ivgen.plain64(sector), "little") == sector
    assert len(ivgen.plain64(sector)) == 16


@given(SECTORS)
def test_plain_starts_anew_after_32_bits(sector: int) -> None:
    assert ivgen.plain(sector) == ivgen.plain64(sector % 2**32)


@given(st.binary(min_size=16, max_size=64), SECTORS)
def test_essiv_is_one_block_under_the_hash_of_the_key(key: bytes, sector: int) -> None:
    salt = hashlib.sha256(key).digest()
    expected = two_libraries.encrypt(salt, None, ivgen.plain64(sector))
    assert ivgen.essiv(key)(sector) == expected


def test_the_digest_chooses_the_aes_of_essiv() -> None:
    key, sector = bytes(range(32)), 0x1F2E3D4C
    salt = hashlib.new("md5", key, usedforsecurity=False).digest()
    expected = two_libraries.encrypt(salt, None, ivgen.plain64(sector))
    assert len(salt) == 16
    assert ivgen.essiv(key, "md5")(sector) == expected


@pytest.mark.parametrize(("name", "size"), [("sha1", 20), ("sha224", 28), ("sha512", 64)])
def test_digests_that_are_no_aes_key(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"essiv:{name} needs an AES key of {size} bytes"):
        ivgen.essiv(bytes(16), name)


def test_a_hash_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="nosuchhash"):
        ivgen.essiv(bytes(16), "nosuchhash")


@pytest.mark.parametrize("name", ["plain", "plain64", "essiv:sha256"])
@pytest.mark.parametrize("sector", [-1, 2**64, 2**80])
def test_sector_numbers_beyond_64_bits(name: str, sector: int) -> None:
    with pytest.raises(ValueError, match="sector number"):
        ivgen.iv_generator(name, bytes(16))(sector)


@pytest.mark.parametrize("name", ["", "plain32", "PLAIN64", "essiv"])
def test_a_name_that_is_not_in_the_table(name: str) -> None:
    with pytest.raises(ValueError, match="there are: plain, plain64, essiv:sha256"):
        ivgen.iv_generator(name, bytes(16))
