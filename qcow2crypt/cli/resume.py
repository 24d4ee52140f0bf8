"""``convert --resume``: what goes with it, and what a person is told of unfinished files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments, Option
from qcow2crypt.cli.progress import Report
from qcow2crypt.cli.targets import TargetImage
from qcow2crypt.cli.terminal import Console, printable

if TYPE_CHECKING:
    from qcow2crypt import Image
    from qcow2crypt.tasks.manner import Manner

RESUME = Option(
    "resume", name="resume", about="go on where a conversion to TARGET was killed; or begin one"
)
_NOT_WITH_RESUME = {
    "n": "it changes what is there",
    "c": "the places of compressed clusters depend on their content",
    "B": "what differs from a backing file is not noted",
    "b": "what differs from a backing file is not noted",
    "bitmaps": "what they say would have to be noted, too",
    "salvage": "what was lost is not noted",
    "force-share": "a source that changes cannot be gone on with",
}


def check_resume(arguments: Arguments, *, streams: bool) -> None:
    """Raises CommandError for what has no sense with --resume."""
    if not arguments.flag("resume"):
        return
    if streams:
        raise CommandError("--resume is from a file to a file: a pipe cannot be read again")
    for key, reason in _NOT_WITH_RESUME.items():
        if arguments.flag(key):
            dashes = "-" if len(key) == 1 else "--"
            raise CommandError(f"{dashes}{key} cannot be with --resume: {reason}")


def convert_resumed(
    images: list[Image],
    target: TargetImage,
    report: Report,
    sparse_size: int,
    manner: Manner,
) -> None:
    """Go on, or begin.  Raises what the library raises."""
    from qcow2crypt.tasks.resuming import convert_resumable

    convert_resumable(
        images,
        target.path,
        target_format=target.format,
        target_secret=target.secret,
        options=target.options,
        sparse_size=sparse_size,
        progress=report,
        manner=manner,
    )


@contextmanager
def telling_left_over(path: str, arguments: Arguments, console: Console) -> Iterator[None]:
    """Name the files of an unfinished conversion to ``path``: at the start, or after a failure."""
    from qcow2crypt.tasks.leftover import left_over

    found = left_over(path)
    if found and not arguments.flag("resume"):
        console.warn(
            f"a conversion to '{printable(path)}' was not finished and left {_names(found)}: "
            "go on with --resume, or delete them"
        )
    try:
        yield
    except BaseException:
        found = left_over(path) if arguments.flag("resume") else ()
        if found:
            console.warn(
                f"not finished; {_names(found)} stay: the same command goes on from there. "
                "Delete them to give up"
            )
        raise


def _names(paths: tuple[str, ...]) -> str:
    return " and ".join(f"'{printable(path)}'" for path in paths)
