"""Text on its way out: standard output, warnings, and names that are safe to show.

Knows no commands.  Results go to standard output, everything else to standard error, so that
output can be piped.  File names come from people and from hostile images: control characters in
them are shown as escapes and never reach the terminal.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from qcow2crypt.cli.failures import CommandError

PROGRAM = "qcow2crypt"


def printable(text: str) -> str:
    """``text`` with every control character and undecodable byte shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as os.fsdecode hands it on
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def write_line(stream: TextIO, text: str) -> None:
    """Write one line; what the stream's encoding lacks is shown as an escape."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


class Console:
    """Where one command speaks.  ``quiet`` (-q) silences everything but results and errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def out(self, text: str) -> None:
        """A line of the result.  Raises CommandError when standard output cannot be written."""
        if sys.stdout is None:  # closed by whoever started us
            raise CommandError("cannot write to standard output: it is closed")
        try:
            write_line(sys.stdout, text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(error) from error

    def warn(self, text: str) -> None:
        """A line that does not change the result but that a person should read."""
        if not self.quiet:
            write_line(sys.stderr, f"{PROGRAM}: warning: {text}")


def prepare_errors() -> None:
    """Give messages somewhere to go where standard error is closed."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good


def flush_output() -> None:
    """Bring out what is still buffered.  Raises as ``Console.out``."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def abandon_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _unwritable(error: OSError) -> CommandError:
    return CommandError(f"cannot write to standard output: {error.strerror}")
