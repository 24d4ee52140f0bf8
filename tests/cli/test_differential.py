"""The same command line, given to qemu-img and to us: same exit code, same files.

Where we differ on purpose, a row says so: then the row is checked on both sides.
"""

from __future__ import annotations

import shlex

import pytest
from cli.both import Both
from cli.commandline import Outcome
from cli.lines import (
    CONVERT,
    CREATE,
    CREATE_MORE,
    INTO_EXISTING,
    ONLY_QEMU_IMG,
    ONLY_US,
    SECRETS,
    TO_AES,
)


def one_line(outcome: Outcome) -> None:
    """Every failure says why, and is no traceback."""
    assert outcome.err.startswith("qcow2crypt: ")
    assert "Traceback" not in outcome.err
    assert "this is a fault of qcow2crypt" not in outcome.err


@pytest.mark.parametrize("line", [*CREATE, *CREATE_MORE, *CONVERT, *INTO_EXISTING])
def test_same_outcome(line: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(shlex.split(line), monkeypatch)
    assert ours.status == theirs.status, (theirs.err, ours.err)
    if ours.status:
        one_line(ours)
    else:
        assert ours.out == theirs.out
    both.compare_files()


def test_a_failure_leaves_nothing_behind(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(shlex.split("convert -f raw -t bogus disk.raw a"), monkeypatch)
    assert (theirs.status, ours.status) == (1, 1)
    assert (both.theirs / "a").exists()
    assert not (both.ours / "a").exists()


@pytest.mark.parametrize("secret", SECRETS)
def test_same_key_from_an_object(secret: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["convert", "-f", "raw", *TO_AES.split(), "--object", secret, "disk.raw", "a"]
    theirs, ours = both(words, monkeypatch)
    assert ours.status == theirs.status, (theirs.err, ours.err)
    if ours.status:
        one_line(ours)
    both.compare_files()


@pytest.mark.parametrize(("line", "reason"), ONLY_QEMU_IMG.items())
def test_refused_by_name(
    line: str, reason: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = both(shlex.split(line), monkeypatch)
    assert (theirs.status, ours.status) == (0, 1)
    one_line(ours)
    assert reason in ours.err
    assert not (both.ours / "a").exists()


@pytest.mark.parametrize("line", ONLY_US, ids=list(ONLY_US))
def test_taken_by_us_alone(line: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(shlex.split(line), monkeypatch)
    assert (theirs.status, ours.status) == (1, 0), (theirs.err, ours.err)
    assert not ours.err
