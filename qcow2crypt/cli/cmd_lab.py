"""``qcow2crypt lab``: the flaws of legacy AES encryption, each shown on an image made for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qcow2crypt.cli.cmd_bench import refuse_unwritable, write_text
from qcow2crypt.cli.failures import UsageError
from qcow2crypt.cli.options import HELP, QUIET, Arguments, Option
from qcow2crypt.cli.terminal import Console, printable

if TYPE_CHECKING:
    from qcow2crypt.lab.qemu import Qemu
    from qcow2crypt.lab.session import Shown

USAGE = (
    "qcow2crypt lab [NAME | all] [--keep DIR] [--html FILE] [--json FILE|-] [--no-qemu]\n"
    "       qcow2crypt lab watermark|snapshot --image IMAGE [--json -]"
)
ABOUT = """\
Show what is wrong with the encryption: one flaw at a time, on an image that is made for it, with a
figure that is counted in the run, what it would be by chance, and the same measurement for better
ways.  Without NAME the flaws are listed.

  qcow2crypt lab
  qcow2crypt lab bitflip --keep flip
  qcow2crypt lab all --html flaws.html
  qcow2crypt lab watermark --image disk.qcow2

Where qemu-img is installed, QEMU reads the same images and makes LUKS images for contrast, which
takes some seconds.  With --image a given image is searched, without its passphrase.

Exit code 1 if a figure is not what the rule says.
"""
OPTIONS = (
    Option("keep", name="keep", metavar="DIR", about="leave the files in DIR, new or empty"),
    Option(
        "html", name="html", metavar="FILE", about="write a report with pictures: one HTML file"
    ),
    Option("json", name="json", metavar="FILE|-", about="write all figures as JSON; - prints them"),
    Option("no-qemu", name="no-qemu", about="leave out what needs qemu-img"),
    Option("image", name="image", metavar="IMAGE", about="search this image; needs no passphrase"),
    QUIET,
    HELP,
)
_ALL = "all"


def run(arguments: Arguments, console: Console) -> int:
    """List, show, or search.  Raises LabError, CommandError and what the library raises."""
    from qcow2crypt.lab import DEMONSTRATIONS

    if len(arguments.operands) > 1:
        raise UsageError("lab takes one name, or all")
    if arguments.last("image") is not None:
        return _search(arguments, console)
    if not arguments.operands:
        return _list(arguments, console)
    (name,) = arguments.operands
    if name != _ALL and name not in DEMONSTRATIONS:
        raise UsageError(
            f"there is no demonstration '{printable(name)}': {', '.join(DEMONSTRATIONS)}, all"
        )
    for option in ("html", "json"):
        if (target := arguments.last(option)) is not None:
            refuse_unwritable(target)
    return _show(tuple(DEMONSTRATIONS) if name == _ALL else (name,), arguments, console)


def _list(arguments: Arguments, console: Console) -> int:
    from qcow2crypt.cli.output_lab import list_lines
    from qcow2crypt.lab import DEMONSTRATIONS

    for option in ("keep", "html", "json"):
        if arguments.last(option) is not None:
            raise UsageError(f"--{option} needs the name of a demonstration, or all")
    console.out("What is wrong with the AES encryption of old qcow2 images:\n")
    for line in list_lines(tuple(DEMONSTRATIONS.values())):
        console.out(line)
    console.out("\n'qcow2crypt lab NAME' shows one, 'qcow2crypt lab all' all of them.")
    return 0


def _show(names: tuple[str, ...], arguments: Arguments, console: Console) -> int:
    from qcow2crypt.lab.qemu import Qemu
    from qcow2crypt.lab.session import show

    keep = arguments.last("keep")
    qemu = None if arguments.flag("no-qemu") else Qemu.find()
    live = not console.quiet and sys.stderr.isatty()
    try:
        shown = show(
            names,
            keep=None if keep is None else Path(keep),
            qemu=qemu,
            tell=_tell if live else lambda _: None,
        )
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    _write(shown, qemu, arguments, console)
    return 0 if all(one.result.holds for one in shown) else 1


def _tell(name: str) -> None:
    sys.stderr.write(f"\r\x1b[K{name} ...")
    sys.stderr.flush()


def _write(shown: list[Shown], qemu: Qemu | None, arguments: Arguments, console: Console) -> None:
    json_name, html_name = arguments.last("json"), arguments.last("html")
    if html_name is not None:
        from qcow2crypt.lab.page import report

        write_text(html_name, report(shown))
    if json_name is not None:
        from qcow2crypt.lab.session import as_dict

        _json(as_dict(shown, qemu), json_name, console)
    if json_name != "-":
        from qcow2crypt.cli.output_lab import lab_lines, painter

        paint = painter() if sys.stdout is not None and sys.stdout.isatty() else None
        for line in lab_lines(shown, paint=paint):
            console.out(line)


def _search(arguments: Arguments, console: Console) -> int:
    from qcow2crypt.lab.search import search_marks, search_stages

    if arguments.operands not in (("watermark",), ("snapshot",)):
        raise UsageError("--image is for 'lab watermark' and 'lab snapshot'")
    for option in ("keep", "html"):
        if arguments.last(option) is not None:
            raise UsageError(f"--{option} and --image exclude each other")
    image = str(arguments.last("image"))
    json_name = arguments.last("json")
    if json_name is not None:
        refuse_unwritable(json_name)
    if arguments.operands == ("watermark",):
        from qcow2crypt.cli.output_lab import marks_lines

        marks = search_marks(image)
        answer: dict[str, object] = {"image": image, **marks._asdict()}
        lines = marks_lines(printable(image), marks)
    else:
        from qcow2crypt.cli.output_lab import stages_lines

        encryption, stages = search_stages(image)
        snapshots = [stage._asdict() for stage in stages]
        answer = {"image": image, "encryption": encryption, "snapshots": snapshots}
        lines = stages_lines(printable(image), encryption, stages)
    if json_name is not None:
        _json(answer, json_name, console)
    if json_name != "-":
        for line in lines:
            console.out(printable(line))
    return 0


def _json(answer: object, name: str, console: Console) -> None:
    import json

    text = json.dumps(answer, indent=1)
    if name == "-":
        console.out(text)
    else:
        write_text(name, text + "\n")
