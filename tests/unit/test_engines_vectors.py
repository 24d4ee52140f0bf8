"""Every engine gives what the published documents say: FIPS-197, SP 800-38A, CAVP, and QEMU."""

from __future__ import annotations

import pytest
from support import every_engine, vectors

each_engine = pytest.mark.parametrize("name", every_engine.ENGINES)
CBC_FILES = ("sp800-38a-cbc", "cavp-cbc", "sectors")


def cbc_cases(file: str) -> list[vectors.Case]:
    return [case for case in vectors.cases(file) if case.iv is not None]


def ecb_cases() -> list[vectors.Case]:
    return [case for case in vectors.cases("cavp-ecb") if case.iv is None]


@each_engine
@pytest.mark.parametrize("file", CBC_FILES)
def test_cbc_vectors_one_by_one(name: str, file: str) -> None:
    engine = every_engine.engine(name)
    cases = cbc_cases(file)
    assert cases
    for case in cases:
        key = engine.expand_key(case.key)
        size = len(case.plaintext)  # the message is one sector
        out = bytearray(size)
        key.cbc_encrypt(case.iv or b"", case.plaintext, out, size)
        assert out == case.ciphertext, case.id
        key.cbc_decrypt(case.iv or b"", case.ciphertext, out, size)
        assert out == case.plaintext, case.id


@each_engine
def test_cbc_vectors_as_runs(name: str) -> None:
    """Cases of one key and one length are the sectors of one run: the other way of an engine."""
    engine = every_engine.engine(name)
    runs: dict[tuple[bytes, int], list[vectors.Case]] = {}
    for file in CBC_FILES:
        for case in cbc_cases(file):
            runs.setdefault((case.key, len(case.plaintext)), []).append(case)
    assert max(len(run) for run in runs.values()) > 100
    for (user_key, size), run in runs.items():
        ivs = b"".join(case.iv or b"" for case in run)
        plaintext = b"".join(case.plaintext for case in run)
        ciphertext = b"".join(case.ciphertext for case in run)
        key = engine.expand_key(user_key)
        out = bytearray(plaintext)
        key.cbc_encrypt(ivs, out, out, size)
        assert out == ciphertext, run[0].id
        key.cbc_decrypt(ivs, out, out, size)
        assert out == plaintext, run[0].id


@each_engine
def test_ecb_vectors(name: str) -> None:
    engine = every_engine.engine(name)
    cases = ecb_cases()
    assert cases
    runs: dict[bytes, list[vectors.Case]] = {}
    for case in cases:
        out = bytearray(len(case.plaintext))
        engine.expand_key(case.key).ecb_encrypt(case.plaintext, out)
        assert out == case.ciphertext, case.id
        runs.setdefault(case.key, []).append(case)
    assert max(len(run) for run in runs.values()) > 100
    for user_key, run in runs.items():
        together = bytearray(b"".join(case.plaintext for case in run))
        engine.expand_key(user_key).ecb_encrypt(together, together)
        assert together == b"".join(case.ciphertext for case in run), run[0].id


@each_engine
@pytest.mark.parametrize("size", [16, 24, 32])
def test_fips_197_appendix_c(name: str, size: int) -> None:
    expected = {
        16: "69c4e0d86a7b0430d8cdb78070b4c55a",
        24: "dda97ca4864cdfe06eaf70a0ec0d7191",
        32: "8ea2b7ca516745bfeafc49904b496089",
    }
    block = bytearray.fromhex("00112233445566778899aabbccddeeff")
    every_engine.engine(name).expand_key(bytes(range(size))).ecb_encrypt(block, block)
    assert block.hex() == expected[size]
