"""Passphrases on their way in: what is taken, what is refused, and that none is ever shown."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from qcow2crypt.errors import SecretError, SecretRequiredError
from qcow2crypt.secret import passphrase_bytes

TOLD = "hunter2"


@pytest.mark.parametrize(
    ("secret", "passphrase"),
    [
        ("abc", b"abc"),
        ("", b""),
        ("größe", b"gr\xc3\xb6\xc3\x9fe"),
        ("\U0001f511", b"\xf0\x9f\x94\x91"),
        (b"abc", b"abc"),
        (b"", b""),
        (b"\xff\x00\xfe", b"\xff\x00\xfe"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (lambda: "abc", b"abc"),
        (lambda: b"\xff", b"\xff"),
        ("x" * 100_000, b"x" * 100_000),
    ],
)
def test_taken(secret: Any, passphrase: bytes) -> None:
    found = passphrase_bytes(secret, needed_for="it")
    assert found == passphrase
    assert type(found) is bytes


@pytest.mark.parametrize("secret", [None, lambda: None])
def test_none_is_none_given(secret: Any) -> None:
    with pytest.raises(SecretRequiredError, match=r"^'a\.qcow2' is encrypted: a passphrase is"):
        passphrase_bytes(secret, needed_for="'a.qcow2'")


@pytest.mark.parametrize("secret", [7, 1.5, ["a"], object(), lambda: 7, lambda: lambda: "a"])
def test_other_types_are_refused(secret: Any) -> None:
    with pytest.raises(SecretError, match=r"must be str or bytes, not \w+"):
        passphrase_bytes(secret, needed_for="it")


@pytest.mark.parametrize("secret", [f"{TOLD}\ud800", [TOLD], (TOLD,), {TOLD: 1}])
def test_a_refused_passphrase_is_not_shown(secret: Any) -> None:
    with pytest.raises(SecretError) as caught:
        passphrase_bytes(secret, needed_for="it")
    # The lines of this very file would show it: look at what the library says and carries.
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value).format_exception_only()
    )
    assert TOLD not in shown + str(caught.value) + repr(caught.value.args)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_callable_is_asked_once() -> None:
    answers = iter(["abc"])
    assert passphrase_bytes(lambda: next(answers), needed_for="it") == b"abc"


def test_what_a_callable_raises_is_its_own_matter() -> None:
    def gone() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        passphrase_bytes(gone, needed_for="it")
