"""``-`` in ``convert``: a raw disk from standard input, or to standard output.

Knows which options make sense there; the copying is in ``tasks``.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import qcow2crypt
from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.progress import progress, progress_mode
from qcow2crypt.cli.targets import TargetImage
from qcow2crypt.cli.terminal import Console

if TYPE_CHECKING:
    from qcow2crypt import Image
    from qcow2crypt.tasks.manner import Manner

STREAM = "-"
_NOT_WITH_OUTPUT = (
    *("n", "c", "o", "e", "B", "b", "F", "verify", "target-image-opts", "target-is-zero"),
    *("bitmaps", "skip-broken-bitmaps", "salvage"),
    *("target-secret", "target-secret-file", "target-secret-fd", "target-secret-env"),
)
_NOT_WITH_INPUT = (
    *("image-opts", "l", "secret-file", "secret-fd", "secret-env"),
    *("wrong-iv", "raw-zeros", "force-share", "bitmaps", "salvage"),
)
_NOT_WITH_PIPE = {
    "n": "what it replaces is kept where the source ends",
    "B": "it is compared with a backing file",
    "b": "it is compared with a backing file",
}


def to_stdout(
    open_sources: Callable[[ExitStack], Sequence[Image]],
    arguments: Arguments,
    manner: Manner,
) -> int:
    """The raw disk to standard output.  Raises CommandError for what has no sense there."""
    for key in _NOT_WITH_OUTPUT:
        if arguments.flag(key):
            raise CommandError(
                f"{_spelling(key)} cannot be with standard output: it gets a raw disk"
            )
    if arguments.last("O") not in (None, "raw"):
        raise CommandError(
            "standard output gets a raw disk: another format is not written in one go. "
            "Leave -O out, or name a file"
        )
    if sys.stdout is None or sys.stdout.isatty():
        raise CommandError("a disk is not written to a terminal: redirect standard output")
    from qcow2crypt.tasks.streaming import stream

    with ExitStack() as stack:
        images = open_sources(stack)
        sys.stdout.flush()
        with progress(progress_mode(arguments), "convert") as report:
            stream(images, sys.stdout.fileno(), progress=report, manner=manner)
    return 0


def check_input(sources: Sequence[str], target: str, arguments: Arguments) -> bool:
    """Whether the source is a stream: standard input that is no file.

    Raises CommandError for what has no sense with standard input.
    """
    if STREAM not in sources:
        return False
    if target == STREAM:
        raise CommandError("from standard input to standard output there is nothing to convert")
    if len(sources) > 1:
        raise CommandError("standard input cannot be one of several sources: give it alone")
    _check_words(arguments)
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("a disk is not read from a terminal: redirect standard input")
    if _is_file(sys.stdin.fileno()):
        return False
    for key, reason in _NOT_WITH_PIPE.items():
        if arguments.flag(key):
            raise CommandError(
                f"{_spelling(key)} cannot be with a pipe, which is read once and in order: "
                f"{reason}. Save the disk to a file first"
            )
    return True


def _check_words(arguments: Arguments) -> None:
    for key in _NOT_WITH_INPUT:
        if arguments.flag(key):
            raise CommandError(f"{_spelling(key)} cannot be with standard input: it is a raw disk")
    if arguments.last("format") not in (None, "raw"):
        raise CommandError("standard input is a raw disk: leave -f out, or name a file")
    for key in ("target-secret-file", "target-secret-fd"):
        if arguments.last(key) in (STREAM, "0"):
            raise CommandError(
                f"{_spelling(key)}: standard input is the disk, and cannot be a passphrase too"
            )


def _is_file(descriptor: int) -> bool:
    """A file or a device that stands at its start can be read anywhere, and has a size."""
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return False
    return os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def stdin_image() -> Image:
    """Standard input that is a file.  Raises what opening raises."""
    from qcow2crypt.image.raw import raw_from_descriptor

    return raw_from_descriptor(sys.stdin.fileno(), "standard input")


def from_stdin(
    target: TargetImage,
    arguments: Arguments,
    console: Console,
    *,
    size: int | None,
    sparse_size: int,
    manner: Manner,
) -> int:
    """A raw disk from a pipe to a new image.  Raises what the library raises."""
    from qcow2crypt.tasks.receiving import receive, verify_received

    with progress(progress_mode(arguments), "convert") as report:
        received = receive(
            sys.stdin.fileno(),
            target.path,
            target_format=target.format,
            target_secret=target.secret,
            options=target.options,
            size=size,
            sparse_size=sparse_size,
            progress=report,
            compress=arguments.flag("c"),
            manner=manner,
            hashed=arguments.flag("verify"),
        )
    if arguments.flag("verify"):
        with qcow2crypt.open(target.path, target.secret, format=target.format) as image:
            digest = verify_received(image, received)
        console.out(f"verified: the target holds the disk of the source, SHA-256 {digest}")
    return 0


def _spelling(key: str) -> str:
    return ("-" if len(key) == 1 else "--") + key
