"""CBC against SP 800-38A, CAVP and two libraries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from support.vectors import Case
from vectors import two_libraries

from qcow2crypt.reference import modes
from qcow2crypt.reference.aes import set_decrypt_key, set_encrypt_key

CBC = vectors.groups("cavp-cbc")
KEYS = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
BLOCKS = st.binary(min_size=16, max_size=16)
MESSAGES = st.integers(0, 6).flatmap(lambda n: st.binary(min_size=16 * n, max_size=16 * n))


@pytest.mark.parametrize("case", vectors.cases("sp800-38a-cbc"), ids=lambda case: case.id)
def test_examples_of_sp800_38a(case: Case) -> None:
    _check_cbc(case)


@pytest.mark.parametrize("name", CBC)
def test_cavp_cbc(name: str) -> None:
    for case in CBC[name]:
        _check_cbc(case)


@pytest.mark.parametrize("chain", vectors.load("cavp-cbc-mct")["chains"], ids=lambda row: row["id"])
def test_cavp_monte_carlo(chain: dict[str, str]) -> None:
    """A thousand blocks in a chain: each IV is the ciphertext before, each input an old output."""
    encrypting = chain["direction"] == "encrypt"
    make, run = (
        (set_encrypt_key, modes.cbc_encrypt) if encrypting else (set_decrypt_key, modes.cbc_decrypt)
    )
    key = bytes.fromhex(chain["key"])
    schedule = make(key, 8 * len(key))
    iv, block = bytes.fromhex(chain["iv"]), bytes.fromhex(chain["input"])
    previous = iv  # what the block after next takes as its input
    for _ in range(1000):
        output = run(block, schedule, iv)
        iv = output if encrypting else block
        block, previous = previous, output
    assert output.hex() == chain["output"]


@given(KEYS, BLOCKS, MESSAGES)
def test_any_message_as_in_two_libraries(key: bytes, iv: bytes, message: bytes) -> None:
    bits = 8 * len(key)
    secret = modes.cbc_encrypt(message, set_encrypt_key(key, bits), iv)
    assert secret == two_libraries.encrypt(key, iv, message)
    assert modes.cbc_decrypt(secret, set_decrypt_key(key, bits), iv) == message


@given(BLOCKS, BLOCKS, MESSAGES, MESSAGES)
def test_a_message_can_be_cut_at_any_block(
    key: bytes, iv: bytes, first: bytes, second: bytes
) -> None:
    """The last ciphertext block is the IV of what follows; the classic code wrote it back."""
    schedule = set_encrypt_key(key, 128)
    head = modes.cbc_encrypt(first, schedule, iv)
    tail = modes.cbc_encrypt(second, schedule, (iv + head)[-16:])
    assert head + tail == modes.cbc_encrypt(first + second, schedule, iv)


def test_no_blocks_give_no_blocks() -> None:
    assert modes.cbc_encrypt(b"", set_encrypt_key(bytes(16), 128), bytes(16)) == b""
    assert modes.cbc_decrypt(b"", set_decrypt_key(bytes(16), 128), bytes(16)) == b""


@pytest.mark.parametrize("size", [1, 15, 17, 511])
def test_partial_blocks_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes are not whole blocks"):
        modes.cbc_encrypt(bytes(size), set_encrypt_key(bytes(16), 128), bytes(16))
    with pytest.raises(ValueError, match=f"{size} bytes are not whole blocks"):
        modes.cbc_decrypt(bytes(size), set_decrypt_key(bytes(16), 128), bytes(16))


@pytest.mark.parametrize("size", [0, 8, 15, 17])
def test_ivs_of_a_wrong_length_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"an IV has 16 bytes, not {size}"):
        modes.cbc_encrypt(bytes(16), set_encrypt_key(bytes(16), 128), bytes(size))
    with pytest.raises(ValueError, match=f"an IV has 16 bytes, not {size}"):
        modes.cbc_decrypt(bytes(16), set_decrypt_key(bytes(16), 128), bytes(size))


def _check_cbc(case: Case) -> None:
    assert case.iv is not None
    encrypted = modes.cbc_encrypt(case.plaintext, set_encrypt_key(case.key, case.bits), case.iv)
    assert encrypted == case.ciphertext, case.id
    decrypted = modes.cbc_decrypt(case.ciphertext, set_decrypt_key(case.key, case.bits), case.iv)
    assert decrypted == case.plaintext, case.id
