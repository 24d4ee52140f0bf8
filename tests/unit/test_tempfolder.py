"""A temporary folder goes, whenever the signal comes that ends the work."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcow2crypt.tempfolder import temporary_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot let signals wait")


class EndedError(BaseException):
    """The signal came."""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    def end(*_: object) -> None:
        raise EndedError

    before = signal.signal(request.param, end)
    yield request.param
    signal.signal(request.param, before)


def send(number: int) -> None:
    """A signal for this thread: pytest may have others, of which the system would choose one."""
    signal.pthread_kill(threading.get_ident(), number)


def and_then(call: Callable[..., Any], number: int, *, first: bool) -> Callable[..., Any]:
    """The call, with a signal for ourselves before or behind it."""

    def both(*args: Any, **named: Any) -> Any:
        if first:
            send(number)
        found = call(*args, **named)
        if not first:
            send(number)
        return found

    return both


@pytest.mark.parametrize("first", [True, False])
def test_a_signal_while_it_is_made(
    tmp_path: Path, number: int, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", and_then(tempfile.mkdtemp, number, first=first))
    with pytest.raises(EndedError), temporary_folder("x-", tmp_path):
        pytest.fail("the work began all the same")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_it_is_used(tmp_path: Path, number: int) -> None:
    def work() -> None:
        with temporary_folder("x-", tmp_path) as folder:
            (folder / "file").write_bytes(b"data")
            assert folder.parent == tmp_path
            send(number)
            pytest.fail("the work went on")

    with pytest.raises(EndedError):
        work()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_signal_while_it_is_removed(
    tmp_path: Path, number: int, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", and_then(shutil.rmtree, number, first=first))
    with pytest.raises(EndedError), temporary_folder("x-", tmp_path) as folder:
        (folder / "file").write_bytes(b"data")
    assert list(tmp_path.iterdir()) == []


def test_where_no_folder_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), temporary_folder("x-", tmp_path / "none"):
        pytest.fail("there is no folder")


def test_signals_come_again_afterwards(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with temporary_folder("x-", tmp_path):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
