"""``convert --resume``: what goes with it, and what a person is told of unfinished files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments, Option
from qcow2crypt.cli.terminal import Console, printable

RESUME = Option(
    "resume", name="resume", about="go on where a conversion to TARGET was killed; or begin one"
)
_NOT_WITH_RESUME = {
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
            raise CommandError(
                f"{dashes}{key} cannot be with --resume: {reason}; leave one of them out"
            )


@contextmanager
def telling_left_over(path: str, arguments: Arguments, console: Console) -> Iterator[None]:
    """Name the files of an unfinished conversion to ``path``: at the start, or after a failure."""
    from qcow2crypt.tasks.leftover import abandoned, left_over

    if killed := abandoned(path):
        console.warn(
            f"a conversion to '{printable(path)}' was killed and left {_names(killed)}: of no use, "
            "delete it"
        )
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
