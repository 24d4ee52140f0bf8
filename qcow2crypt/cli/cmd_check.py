"""``qcow2crypt check``: are the tables of an image sound, and ``-r`` to repair them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import CommandError, UsageError, exit_status
from qcow2crypt.cli.images import ImageName, check_encryption, name_image
from qcow2crypt.cli.manner import check_cache
from qcow2crypt.cli.objects import SecretObject, read_objects
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import (
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    OUTPUT,
    QUIET,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.terminal import Console, printable, write_line

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.check.findings import Finding
    from qcow2crypt.image.qcow2.check.rebuild import RepairKind
    from qcow2crypt.tasks.checking import CheckResult, SuspectSector

USAGE = "qcow2crypt check [options] FILE"
ABOUT = """\
Check the tables of a qcow2 image: every cluster counted as often as it is used, every flag right.
-r leaks frees clusters that nothing uses, -r all repairs what can be repaired.  Make a copy first.

Needs no passphrase, and opens no other file than FILE.  The exit code is 0 if all is well, 1 if
the check failed, 2 if there are corruptions, 3 if there are leaks only, 63 for other formats.

  qcow2crypt check old.qcow2
  qcow2crypt check -r all old.qcow2
  qcow2crypt check --wrong-iv --secret-file key old.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    OUTPUT,
    Option("repair", "r", "repair", "leaks|all", "repair the image"),
    Option(
        "wrong-iv",
        name="wrong-iv",
        about="list sectors that QEMU 2.7.0 seems to have spoiled",
    ),
    *secret_options("", "FILE"),
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    QUIET,
    Option("T", "T", metavar="CACHE", about="no effect on the result: QEMU's cache"),
    HELP,
)

_NOT_SUPPORTED = 63
_LINES_MAX = 100_000
_SUSPECTS_SHOWN = 20


def run(arguments: Arguments, console: Console) -> int:
    """Check, print, and give the exit code.  Raises what the library raises."""
    as_json = check_output(arguments) == "json"
    repair = _repair(arguments)
    if len(arguments.operands) != 1:
        raise UsageError("check takes the name of one image")
    check_cache(arguments, "T")
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    if repair is not None and arguments.flag("force-share"):
        raise CommandError("-r and --force-share exclude each other: a repair is not shared")
    if repair is not None and name.read_only:
        raise CommandError("-r cannot repair an image that is given as read-only")
    result = _check(name, arguments, repair)
    suspects = None
    if arguments.flag("wrong-iv"):
        suspects = _suspects(name, arguments, objects, console)
    if not console.quiet and (result.failure is None or suspects is not None):
        lines = _json(result, suspects) if as_json else _human(result, suspects)
        for line in lines:
            console.out(line)
    if result.failure is not None:
        raise CommandError(f"the check failed: {result.failure}")
    if result.check_errors:
        raise CommandError("the check failed: not everything could be checked")
    advice = None if as_json else _advice(result, repair)
    if advice is not None:
        console.warn(advice)
    return result.status


def _advice(result: CheckResult, repair: RepairKind | None) -> str | None:
    """What to do next."""
    if result.corruptions:
        if repair == "all":
            return (
                "what is left cannot be repaired; 'qcow2crypt convert' copies what can be read of "
                "the image to a new one"
            )
        return "make a copy of the image, then repair it with 'qcow2crypt check -r all'"
    if result.leaks and repair is None:
        return "'qcow2crypt check -r leaks' gives the leaked space back"
    return None


def _repair(arguments: Arguments) -> RepairKind | None:
    value = arguments.last("repair")
    if value is None:
        return None
    if value == "leaks":
        return "leaks"
    if value == "all":
        return "all"
    raise UsageError(f"-r is leaks or all, not '{printable(value)}'")


def _check(name: ImageName, arguments: Arguments, repair: RepairKind | None) -> CheckResult:
    import qcow2crypt
    from qcow2crypt.tasks.checking import can_check, check

    if not can_check(name.path, name.format):
        with exit_status(_NOT_SUPPORTED):
            raise CommandError("this image format does not support checks: only qcow2 has tables")
    if name.encrypt_format is not None:
        check_encryption(name, qcow2crypt.info(name.path, format="qcow2").encryption)
    return check(
        name.path,
        repair=repair,
        format="qcow2",
        force_share=arguments.flag("force-share"),
        report=_Printer(),
    )


class _Printer:
    """Prints findings on standard error as they come, up to a limit."""

    def __init__(self) -> None:
        self._left = _LINES_MAX

    def __call__(self, finding: Finding) -> None:
        if self._left > 0:
            write_line(sys.stderr, printable(str(finding)))
        elif self._left == 0:
            write_line(sys.stderr, "... and more; the numbers below count all")
        self._left -= 1


def _suspects(
    name: ImageName, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> list[SuspectSector]:
    from qcow2crypt.image.qcow2.reader import Qcow2Image
    from qcow2crypt.tasks.checking import wrong_iv_suspects

    # The backing file has its own sectors, and is checked as an image of its own.
    alone = name._replace(options=name.options._replace(format="qcow2", no_backing=True))
    with open_named(alone, arguments, objects, console) as image:
        if not isinstance(image, Qcow2Image) or not image.encrypted:
            raise CommandError(f"--wrong-iv: '{name.shown}' is not encrypted with legacy AES")
        return list(wrong_iv_suspects(image))


def _json(result: CheckResult, suspects: list[SuspectSector] | None) -> Iterator[str]:
    from qcow2crypt.cli.output_json import check_json

    yield check_json(result, suspects)


def _human(result: CheckResult, suspects: list[SuspectSector] | None) -> Iterator[str]:
    if result.failure is None:
        from qcow2crypt.cli.output_human import check_lines

        yield from check_lines(result)
    if suspects is None:
        return
    if not suspects:
        yield "No sector looks as if QEMU 2.7.0 had encrypted it wrongly."
        return
    yield f"{len(suspects)} sectors look as if QEMU 2.7.0 had encrypted them wrongly:"
    for sector in suspects[:_SUSPECTS_SHOWN]:
        yield f"  guest offset {sector.guest_offset:#x}, host offset {sector.host_offset:#x}"
    if len(suspects) > _SUSPECTS_SHOWN:
        yield f"  and {len(suspects) - _SUSPECTS_SHOWN} more (--output=json lists all)"
