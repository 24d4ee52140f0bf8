"""From a passphrase to the key of legacy AES, and what is said about odd passphrases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.crypt.legacy_aes import key_from_passphrase, passphrase_warnings
from qcow2crypt.errors import SecretError
from qcow2crypt.reference.sectors import passphrase_to_key


@pytest.mark.parametrize(
    ("passphrase", "key"),
    [
        ("hunter2", "68756e74657232000000000000000000"),
        (b"hunter2", "68756e74657232000000000000000000"),
        ("", "00000000000000000000000000000000"),
        ("0123456789abcdef", "30313233343536373839616263646566"),
        ("0123456789abcdefZZZ", "30313233343536373839616263646566"),
        ("0123456789abcde\u00e9", "303132333435363738396162636465c3"),  # cut within a character
        (b"\xff\xfe", "fffe0000000000000000000000000000"),
    ],
)
def test_keys(passphrase: str | bytes, key: str) -> None:
    assert key_from_passphrase(passphrase).hex() == key


@given(st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_key_is_that_of_the_textbook(passphrase: str | bytes) -> None:
    assert key_from_passphrase(passphrase) == passphrase_to_key(passphrase)


@pytest.mark.parametrize("surrogate", [0xD800, 0xDC80, 0xDFFF])
def test_a_lone_surrogate_is_refused_without_showing_the_passphrase(surrogate: int) -> None:
    with pytest.raises(SecretError) as caught:
        key_from_passphrase("open sesame" + chr(surrogate))
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [
        (b"hunter2", []),
        (b"0123456789abcdef", []),
        ("\u00e9t\u00e9".encode(), []),
        (b"0123456789abcdefg", ["only the first 16 count"]),
        (b"", ["is empty"]),
        (b"hunter2\n", ["newline byte, which is a part of the key"]),
        (b"hunter2\r\n", ["newline byte, which is a part of the key"]),
        (b"0123456789abcde\n", ["newline byte, which is a part of the key"]),
        (b"0123456789abcdef\n", ["only the first 16", "newline byte, which is beyond"]),
        (b"\xff", ["not UTF-8 or has a zero byte"]),
        (b"a\0b", ["not UTF-8 or has a zero byte"]),
        (
            b"0123456789abcdefg\xff\n",
            ["only the first 16", "newline byte, which is beyond", "not UTF-8"],
        ),
    ],
)
def test_warnings(passphrase: bytes, words: list[str]) -> None:
    warnings = passphrase_warnings(passphrase)
    assert len(warnings) == len(words)
    for warning, part in zip(warnings, words, strict=True):
        assert part in warning


@given(st.text("QXZJ\n\r\0\xff", min_size=3).map(str.encode))
def test_warnings_do_not_show_the_passphrase(passphrase: bytes) -> None:
    shown = "".join(passphrase_warnings(passphrase)).replace("UTF-8", "").replace("QEMU", "")
    assert not any(letter in shown for letter in "QXZJ\n\r\0\xff")
