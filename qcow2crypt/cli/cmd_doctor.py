"""``qcow2crypt doctor``: does a program use the AES instructions, and how is that known?"""

from __future__ import annotations

import json
from collections.abc import Sequence

from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.options import HELP, OUTPUT, Arguments, Option
from qcow2crypt.cli.terminal import Console

USAGE = (
    "qcow2crypt doctor [options] [BINARY ...]\n"
    "       qcow2crypt doctor [options] -- COMMAND [ARGUMENT ...]\n"
    "       qcow2crypt doctor [options] --self"
)
ABOUT = """\
Tell which code does the AES in programs of QEMU: AES instructions, software or the kernel.  Needs
no root, no symbols and no debugger.  Without BINARY, every qemu-img, qemu-io, qemu-nbd and
qemu-system on PATH is examined.  Nothing of yours is read or written: it works on small images in
a temporary folder.

A command behind -- is run as it is, once, and what ran is counted.  With {} in its words it is run
several times, with files of 64 and 128 KiB of random bytes in that place; then there is a verdict.

  qcow2crypt doctor
  qcow2crypt doctor --proof /usr/bin/qemu-img
  qcow2crypt doctor -- openssl enc -aes-128-cbc -K 00 -iv 00 -in {} -out /dev/null

Exit code 1 if a program could not be examined, or no program was found.
"""
OPTIONS = (
    Option("proof", name="proof", about="show what the verdicts rest on"),
    Option("self", name="self", about="examine the engine that qcow2crypt itself uses here"),
    Option("format", name="format", metavar="aes|luks", about="only this encryption, not both"),
    Option("json", name="json", about="the same as --output=json"),
    OUTPUT,
    HELP,
)
_COMMAND = "command"


def arrange(words: Sequence[str]) -> list[str]:
    """Keep what stands behind -- apart: options there are those of the command."""
    if "--" not in words:
        return list(words)
    place = list(words).index("--")
    return [*words[:place], "--", _COMMAND, *words[place + 1 :]]


def run(arguments: Arguments, console: Console) -> int:
    """Examine, print, and say by the exit code whether all could be examined."""
    as_json = arguments.flag("json") or check_output(arguments) == "json"
    words = arguments.operands
    formats = _formats(arguments)

    from qcow2crypt import probe

    if arguments.flag("self"):
        if words:
            raise UsageError("doctor --self takes neither a program nor a command")
        reports = [probe.examine_self()]
    elif words and words[0] == _COMMAND:
        if len(words) == 1:
            raise UsageError("doctor -- needs a command")
        reports = [probe.examine_command(words[1:])]
    else:
        names = words or tuple(probe.qemu_on_path())
        if not names:
            raise CommandError(
                "there is no qemu-img, qemu-io, qemu-nbd or qemu-system on PATH; name one, or use "
                "--self or -- COMMAND"
            )
        reports = list(probe.examine_all(names, formats))
    answer = probe.as_dict(probe.processor(), reports)
    if as_json:
        console.out(json.dumps(answer, indent=4))
    else:
        from qcow2crypt.cli.output_doctor import doctor_lines

        for line in doctor_lines(answer, proof=arguments.flag("proof")):
            console.out(line)
    return 1 if any(report.problem for report in reports) else 0


def _formats(arguments: Arguments) -> tuple[str, ...]:
    chosen = arguments.all("format")
    if not set(chosen) <= {"aes", "luks"}:
        raise UsageError("--format is aes or luks")
    return tuple(dict.fromkeys(chosen)) or ("aes", "luks")
