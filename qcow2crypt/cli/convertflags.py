"""The options of ``convert`` that exclude others, and what is told when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.terminal import Console, printable

if TYPE_CHECKING:
    from qcow2crypt.tasks.conversion import ConvertResult


def check_flags(arguments: Arguments) -> None:
    """What cannot be together, as with qemu-img.  Raises CommandError."""
    flag = arguments.flag
    if flag("verify") and any(map(flag, ("n", "B", "b", "salvage"))):
        raise CommandError(
            "--verify is for a new target without a backing file, and for a source without "
            "errors: use 'compare'"
        )
    if flag("skip-broken-bitmaps") and not flag("bitmaps"):
        raise CommandError("--skip-broken-bitmaps needs --bitmaps")
    for key in ("c", "S", "salvage"):
        if flag("C") and flag(key):
            dashes = "-" if len(key) == 1 else "--"
            raise CommandError(
                f"-C and {dashes}{key} are not supported at the same time, nor are they by "
                "qemu-img: leave one of them out"
            )


def bitmaps_wanted(arguments: Arguments) -> Literal["all", "consistent"] | None:
    """Which bitmaps are to be copied."""
    if not arguments.flag("bitmaps"):
        return None
    return "consistent" if arguments.flag("skip-broken-bitmaps") else "all"


def tell_what_is_missing(result: ConvertResult, console: Console) -> None:
    """Warn of what the source has and the target has not."""
    for name in result.skipped_bitmaps:
        console.warn(f"bitmap '{printable(name)}' is inconsistent and was left out")
    for loss in result.losses:
        console.warn(
            f"'{printable(loss.image)}', guest offset {loss.guest_offset:#x}: {loss.length} bytes "
            f"cannot be read and are zeros in the target: {printable(loss.reason)}"
        )
