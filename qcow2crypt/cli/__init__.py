"""The command line: ``qcow2crypt info|create|convert|map`` in qemu-img's words, ``engines``.

Chooses the command and turns every error into one line and an exit code: 0 for success, 1 for
any error, as qemu-img does, 130 after Ctrl-C, 141 when the reader of the output went away, 128
and the number of the signal when one ended the work.
Commands are modules that are imported only when they are run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FrameType

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.options import HELP, Option, help_text, parse
from qcow2crypt.cli.terminal import (
    PROGRAM,
    Console,
    abandon_output,
    flush_output,
    prepare_errors,
    printable,
    write_line,
)
from qcow2crypt.errors import Qcow2CryptError

COMMANDS = {
    "info": ("qcow2crypt.cli.cmd_info", "describe an image, without its passphrase"),
    "create": ("qcow2crypt.cli.cmd_create", "make an empty image"),
    "convert": ("qcow2crypt.cli.cmd_convert", "copy a disk into a new image: decrypt, encrypt"),
    "map": ("qcow2crypt.cli.cmd_map", "show which parts of a disk are stored, and where"),
    "compare": ("qcow2crypt.cli.cmd_compare", "do two images hold the same disk"),
    "measure": ("qcow2crypt.cli.cmd_measure", "how much space a new image would take"),
    "dd": ("qcow2crypt.cli.cmd_dd", "copy a part of a disk into a new image"),
    "snapshot": ("qcow2crypt.cli.cmd_snapshot", "list, make, apply, delete internal snapshots"),
    "resize": ("qcow2crypt.cli.cmd_resize", "give a disk another size"),
    "check": ("qcow2crypt.cli.cmd_check", "are the tables of an image sound; repair them"),
    "commit": ("qcow2crypt.cli.cmd_commit", "bring an overlay's data into its backing file"),
    "rebase": ("qcow2crypt.cli.cmd_rebase", "put another backing file under an overlay"),
    "amend": ("qcow2crypt.cli.cmd_amend", "change version, refcounts or size of an image"),
    "bitmap": ("qcow2crypt.cli.cmd_bitmap", "list the dirty bitmaps of an image"),
    "explain": ("qcow2crypt.cli.cmd_explain", "follow one byte: tables, place, IV, CBC, plaintext"),
    "engines": ("qcow2crypt.cli.cmd_engines", "show what does the AES here, and why"),
    "doctor": ("qcow2crypt.cli.cmd_doctor", "does your QEMU use the AES instructions; with proof"),
    "lab": ("qcow2crypt.cli.cmd_lab", "the flaws of the encryption, each shown on an image"),
    "bench": ("qcow2crypt.cli.cmd_bench", "how fast is it here; does the cluster size matter"),
    "difftest": ("qcow2crypt.cli.cmd_difftest", "find what differs from QEMU, ours or anyone's"),
}
"""Every command: its module and what it does.  A module has USAGE, ABOUT, OPTIONS and run."""

EXIT_ERROR = 1
EXIT_BY_SIGNAL = 128
EXIT_INTERRUPTED = EXIT_BY_SIGNAL + signal.SIGINT
EXIT_BROKEN_PIPE = 141

_ABOUT = """\
Read, write and convert qcow2 disk images with QEMU's legacy AES encryption, in the words of
qemu-img.

  qcow2crypt info old.qcow2
  qcow2crypt convert old.qcow2 disk.raw
"""
_GLOBAL_OPTIONS = (HELP, Option("version", "V", "version", about="show the version and exit"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv`` without the program if None) and give the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    prepare_errors()
    try:
        with _signals_as_errors():
            status = _run(words)
            flush_output()
    except _EndedError as error:
        return EXIT_BY_SIGNAL + error.number
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        abandon_output()
        return EXIT_BROKEN_PIPE
    except Qcow2CryptError as error:
        wanted = error.status if isinstance(error, CommandError) else EXIT_ERROR
        return _fail(_message(error, words), wanted)
    except Exception as error:  # noqa: BLE001 - a fault of ours: one line, no traceback
        return _fail(_fault(error), EXIT_ERROR)
    return status


class _EndedError(BaseException):
    """A signal asked to end.  No Exception: nothing but ``main`` may catch it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@contextlib.contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind the stack, so that no unfinished file stays behind."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise _EndedError(number)

    changed = []
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # One that is ignored (nohup) or handled stays so; only the main thread may change any.
        if number is None or signal.getsignal(number) != signal.SIG_DFL:
            continue
        with contextlib.suppress(ValueError):
            signal.signal(number, end)
            changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _run(words: list[str]) -> int:
    if not words:
        write_line(sys.stderr, _overview())
        return EXIT_ERROR
    if words[0].startswith("-"):
        return _run_global(words)
    command = words[0]
    if command not in COMMANDS:
        raise UsageError(f"there is no command '{printable(command)}': {', '.join(COMMANDS)}")
    module = import_module(COMMANDS[command][0])
    # A size may begin with "-", as an option does: who takes one says so.
    arrange = getattr(module, "arrange", list)
    arguments = parse(module.OPTIONS, arrange(words[1:]), command=command)
    if arguments.flag("help"):
        Console().out(help_text(module.OPTIONS, module.USAGE, module.ABOUT))
        return 0
    status: int = module.run(arguments, Console(quiet=arguments.flag("quiet")))
    return status


def _run_global(words: list[str]) -> int:
    arguments = parse(_GLOBAL_OPTIONS, words, command=PROGRAM)
    if arguments.flag("version"):
        from qcow2crypt import __version__

        Console().out(f"{PROGRAM} {__version__}")
        return 0
    Console().out(_overview())
    return 0


def _overview() -> str:
    rows = "\n".join(f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items())
    usage = f"{PROGRAM} COMMAND [options] ..."
    help_hint = f"'{PROGRAM} COMMAND --help' tells more about one command."
    return f"{help_text(_GLOBAL_OPTIONS, usage, _ABOUT)}\n\ncommands:\n{rows}\n\n{help_hint}"


def _message(error: Qcow2CryptError, words: list[str]) -> str:
    from qcow2crypt.cli.nextstep import next_step

    message = printable(str(error))  # an image may have put its own text into it
    if isinstance(error, UsageError):
        command = f" {words[0]}" if words[0] in COMMANDS else ""
        message += f"\nTry '{PROGRAM}{command} --help' for more information."
    hint = next_step(error, words[0])
    return f"{message}. {hint}" if hint else message


def _fault(error: Exception) -> str:
    """What to say of an error that should not be: its kind, never its text, which may be secret."""
    return (
        f"this is a fault of {PROGRAM}, not of yours ({type(error).__name__}). Please report it, "
        "with the text that QCOW2CRYPT_DEBUG=1 in the environment adds"
    )


def _fail(message: str, status: int) -> int:
    try:
        flush_output()
    except (Qcow2CryptError, OSError):
        abandon_output()  # or the interpreter tries again at its end, and complains
    with contextlib.suppress(OSError):
        if os.environ.get("QCOW2CRYPT_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        write_line(sys.stderr, f"{PROGRAM}: {message}")
    return status
