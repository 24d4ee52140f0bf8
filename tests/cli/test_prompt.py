"""The prompt, on a real terminal: a pseudo terminal whose other end types."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.commandline import HOME, PASSPHRASE, run_program

import qcow2crypt
from qcow2crypt.cli import passphrases
from qcow2crypt.cli.failures import CommandError

pytest.importorskip("termios", reason="there are no pseudo terminals here")
PATIENCE = 60  # seconds until a program that says nothing is taken for hung


# The program makes the terminal its own by itself: a fork here would copy threads of pytest.
TAKE_TERMINAL = """\
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from qcow2crypt.cli import main
sys.exit(main())
"""


class Terminal:
    """A program on a terminal of its own.  ``said`` is what came out of it so far."""

    def __init__(self, *words: str | Path) -> None:
        self.said = b""
        self._fd, slave = os.openpty()
        self._program = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": str(HOME), "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was said after what was waited for before."""
        end = time.monotonic() + PATIENCE
        while text.encode() not in self.said:
            assert self._read(end), f"'{text}' never came; this did: {self.said!r}"
        self.said = self.said.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def finish(self) -> tuple[int, str]:
        """The exit code, and what was said since ``wait_for``."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        status = self._program.wait(PATIENCE)
        os.close(self._fd)
        return status, self.said.decode()

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            self._program.kill()
            return False
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # what Linux says when the program is gone
            return False
        self.said += data
        return bool(data)


def test_the_passphrase_of_the_source_is_asked_once(
    encrypted: Path, raw: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    terminal = Terminal("convert", "-q", encrypted, target)
    terminal.wait_for(f"Passphrase for '{encrypted}': ")
    terminal.type(f"{PASSPHRASE}\n")
    status, rest = terminal.finish()
    assert status == 0
    assert PASSPHRASE not in rest  # no echo
    assert rest.strip() == ""
    assert target.read_bytes() == raw.read_bytes()


def test_a_new_passphrase_is_asked_twice(tmp_path: Path) -> None:
    target = tmp_path / "new.qcow2"
    terminal = Terminal("create", "-f", "qcow2", "-o", "encryption=on", target, "1M")
    terminal.wait_for(f"New passphrase for '{target}': ")
    terminal.type("schön\n")
    terminal.wait_for("The same passphrase again: ")
    terminal.type("schön\n")
    status, rest = terminal.finish()
    assert status == 0
    assert "schön" not in rest
    assert qcow2crypt.info(str(target)).as_dict()["encrypted"]


def test_both_passphrases_are_asked(encrypted: Path, raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.qcow2"
    terminal = Terminal(
        "convert", "-q", "-O", "qcow2", "-o", "encrypt.format=aes", encrypted, target
    )
    terminal.wait_for(f"Passphrase for '{encrypted}': ")
    terminal.type(f"{PASSPHRASE}\n")
    terminal.wait_for(f"New passphrase for '{target}': ")
    terminal.type("new\n")
    terminal.wait_for("again: ")
    terminal.type("new\n")
    assert terminal.finish()[0] == 0
    with qcow2crypt.open(str(target), "new") as image:
        assert image.read() == raw.read_bytes()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [("one\n", "two\n", "the two passphrases differ"), ("\n", "", "an empty passphrase")],
)
def test_a_doubtful_new_passphrase_writes_nothing(
    first: str, second: str, message: str, tmp_path: Path
) -> None:
    target = tmp_path / "new.qcow2"
    terminal = Terminal("create", "-f", "qcow2", "-o", "encrypt.format=aes", target, "1M")
    terminal.wait_for("New passphrase")
    terminal.type(first)
    if second:
        terminal.wait_for("again: ")
        terminal.type(second)
    status, rest = terminal.finish()
    assert status == 1
    assert message in rest
    assert not target.exists()


def test_end_of_input_at_the_prompt(encrypted: Path, tmp_path: Path) -> None:
    terminal = Terminal("convert", encrypted, tmp_path / "out")
    terminal.wait_for("Passphrase for")
    terminal.type("\x04")  # Ctrl-D
    status, rest = terminal.finish()
    assert (status, "no passphrase was typed" in rest) == (1, True)


def test_interrupt_at_the_prompt(encrypted: Path, tmp_path: Path) -> None:
    terminal = Terminal("convert", encrypted, tmp_path / "out")
    terminal.wait_for("Passphrase for")
    terminal.type("\x03")  # Ctrl-C
    status, rest = terminal.finish()
    assert status == 130
    assert "Traceback" not in rest
    assert not (tmp_path / "out").exists()


def test_the_bar_on_a_terminal(raw: Path, tmp_path: Path) -> None:
    terminal = Terminal("convert", "-f", "raw", raw, tmp_path / "out")
    status, rest = terminal.finish()
    assert status == 0
    assert "convert" in rest
    assert "100%" in rest


def test_without_a_terminal_the_options_are_named(encrypted: Path, tmp_path: Path) -> None:
    done = run_program("convert", encrypted, tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    for option in ("--secret-file", "--secret-fd", "--secret-env"):
        assert option in done.err
    done = run_program("create", "-f", "qcow2", "-o", "encryption", tmp_path / "out", "1M")
    assert done.status == 1
    assert "no terminal to ask on" in done.err


def test_no_terminal_means_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(path, flags)

    monkeypatch.undo()  # the fixture that hides the terminal of whoever runs this
    monkeypatch.setattr(os, "open", refuse)
    assert not passphrases.has_terminal()


def test_a_terminal_that_would_echo_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import warnings

    def fallback(prompt: str) -> str:
        warnings.warn(prompt, getpass.GetPassWarning, stacklevel=2)
        return "shown"

    monkeypatch.setattr(getpass, "getpass", fallback)
    with pytest.raises(CommandError, match="would show the passphrase"):
        passphrases.ask("?")


def test_text_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def broken(prompt: str) -> str:
        raise UnicodeDecodeError("utf-8", prompt.encode(), 0, 1, "test")

    monkeypatch.setattr(getpass, "getpass", broken)
    with pytest.raises(CommandError, match="--secret-file takes raw bytes") as caught:
        passphrases.ask("?")
    assert caught.value.__cause__ is None
