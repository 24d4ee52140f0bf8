"""A folder about one difference, which can be sent to the authors as it is.

    report.md     what was done, what each side gave, where, and how to see it again
    script.sh     makes the images, with the programs of QEMU
    case.json     the same for ``qcow2crypt difftest --case``
    made/         the images, made by QEMU; written/ those of the writer, where that is the matter

The passphrases in it were made up for the images.  Knows how a report reads, not what is wrong.
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import qcow2crypt
from qcow2crypt.difftest.differences import Difference
from qcow2crypt.difftest.examining import MADE, WRITTEN, Setup
from qcow2crypt.difftest.outcomes import Content
from qcow2crypt.difftest.readers import QemuReader, Reader
from qcow2crypt.difftest.whereabouts import Place, iv_of, looks_like, place_of
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.script import check_call, convert_call, shell_text
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

REPORT, SCRIPT, CASE = "report.md", "script.sh", "case.json"
_KEPT_MAX = 4 << 20
"""Larger files are not kept: the script makes them."""


_WRITTEN = {
    "write": "What it made is in `written`; there",
    "order": "The image as it was left is in `written`; there",
}


def write_report(
    setup: Setup, case: Case, difference: Difference, examined: Path, target: Path
) -> None:
    """Write the folder ``target`` about a case that lies, examined, in the folder ``examined``."""
    target.mkdir(parents=True, exist_ok=True)
    (target / SCRIPT).write_text(shell_text(case), encoding="utf-8")
    (target / CASE).write_text(json.dumps(case.to_json(), indent=1) + "\n", encoding="utf-8")
    sides = (MADE, WRITTEN) if difference.part != "read" else (MADE,)
    for side in sides:
        _keep(examined / side, target / side)
    lines = "\n".join(_lines(setup, case, difference, examined))
    (target / REPORT).write_text(lines + "\n", encoding="utf-8")


def _keep(source: Path, target: Path) -> None:
    for file in sorted(source.glob("*")):
        if file.is_file() and file.stat().st_size <= _KEPT_MAX and not file.name.startswith("fill"):
            target.mkdir(exist_ok=True)
            shutil.copy(file, target)


def _lines(setup: Setup, case: Case, found: Difference, examined: Path) -> Iterator[str]:
    snapshot = snapshot_of(found.what)
    yield f"# {title(setup, found)}"
    yield ""
    yield from _summary(setup, found)
    yield ""
    yield "## What was done"
    yield ""
    yield "In an empty folder (`script.sh`):"
    yield ""
    yield "```sh"
    yield shell_text(case).rstrip()
    yield "```"
    yield ""
    if found.part == "read":
        yield "Then the disk was read, by the oracle and by the subject:"
        yield ""
        yield "```sh"
        yield setup.oracle.recipe(case, snapshot)
        yield setup.subject.recipe(case, snapshot)
        yield "```"
    else:
        yield f"The writer did the same (`case.json`).  {_WRITTEN[found.part]}:"
        yield ""
        yield "```sh"
        if found.kind.startswith("corrupt"):
            yield _command(check_call(case).words)
        else:
            yield _command(convert_call(case, "disk.raw", snapshot).words)
        yield "```"
    yield ""
    yield "## What came of it"
    yield ""
    yield from _results(setup, case, found, examined)
    yield ""
    yield "## Versions"
    yield ""
    yield from _versions(setup)
    yield ""
    yield "## To see it again"
    yield ""
    yield "```sh"
    yield _again(setup)
    yield "```"


def title(setup: Setup, found: Difference) -> str:
    """One line: who does what."""
    who = _short(setup.subject.name)
    if found.part != "read":
        who = "the writer " + _short(setup.writer.name if setup.writer else "")
    does = {
        "other bytes": f"gives other bytes for {found.what}, without an error",
        "zeros": f"gives zeros in place of data of {found.what}, without an error",
        "other size": f"gives {found.what} another size",
        "refused": f"refuses {found.what}",
        "unsupported": f"does not support {found.what}, and says so",
        "crashed": f"crashes at {found.what}",
        "hung": f"comes to no end with {found.what}",
        "accepted": f"reads {found.what}, which {setup.oracle.name} refuses",
        "corrupt tables": "leaves tables that qemu-img check complains about",
        "corrupt after a power failure": "leaves a corrupt image when the power fails",
    }
    return f"{who} {does[found.kind]}"


def _short(name: str) -> str:
    """A command by its first word."""
    return f"`{shlex.split(name)[0]}`" if " " in name else name


def snapshot_of(what: str) -> str | None:
    """The name of the snapshot in what a difference is about."""
    return what.partition("snapshot ")[2] or None


def _summary(setup: Setup, found: Difference) -> Iterator[str]:
    oracle = setup.oracle.name if found.part == "read" else "qemu-img"
    if found.offset is not None and found.sizes is not None:
        yield (
            f"{found.sectors} of {found.sizes[0] // SECTOR_SIZE} sectors are other than with "
            f"{oracle}, the first at guest offset {found.offset:#x}."
        )
    elif found.sizes is not None:
        yield f"{found.sizes[1]} bytes; with {oracle} it is {found.sizes[0]}."
    elif found.kind in ("refused", "unsupported", "crashed", "hung"):
        yield f"{oracle} has no trouble with it."


def _results(setup: Setup, case: Case, found: Difference, examined: Path) -> Iterator[str]:
    if found.message:
        yield "```text"
        yield found.message.strip().replace(f"{examined}/", "")
        yield "```"
        return
    if found.offset is None:
        yield f"Sizes of the disk in bytes: {found.sizes}"
        return
    side = examined / (MADE if found.part == "read" else WRITTEN)
    place = place_of(case, side, snapshot_of(found.what), found.offset)
    yield "| | |"
    yield "| --- | --- |"
    yield f"| first differing guest offset | {found.offset:#x} ({found.offset}) |"
    yield f"| guest sector | {found.offset // SECTOR_SIZE} |"
    if place is not None:
        yield from _place_rows(case, place, found.offset)
    yield f"| sectors that differ | {found.sectors} |"
    hint = _hint(setup, case, found, examined, place)
    if hint:
        yield f"| what was given there looks like | {hint} |"
    yield ""
    yield "```text"
    yield "guest offset  right                             given"
    for at in range(0, len(found.wanted), BLOCK_SIZE):
        right, given = (data[at : at + BLOCK_SIZE].hex() for data in (found.wanted, found.found))
        yield f"{found.offset + at:#012x}  {right:<32}  {given}"
    yield "```"


def _place_rows(case: Case, place: Place, offset: int) -> Iterator[str]:
    layer = case.file_name(len(case.layers) - 1 - place.depth)
    host = "none" if place.host_offset is None else f"{place.host_offset:#x}, in {layer}"
    yield f"| how it is stored | {place.kind}{', encrypted' * place.encrypted} |"
    yield f"| host offset | {host} |"
    if place.encrypted:
        yield f"| IV | {iv_of(offset).hex()} |"


def _hint(
    setup: Setup, case: Case, found: Difference, examined: Path, place: Place | None
) -> str | None:
    snapshot = snapshot_of(found.what)
    assert found.offset is not None  # noqa: S101 - the caller has seen to it
    if found.part == "read":
        readers: tuple[Reader, Reader] = (setup.oracle, setup.subject)
        folders = (examined / MADE, examined / MADE)
    else:
        readers = (QemuReader(setup.tools), QemuReader(setup.tools))
        folders = (examined / MADE, examined / WRITTEN)
    outcomes = [
        reader.read(case, folder, snapshot, setup.longest)
        for reader, folder in zip(readers, folders, strict=True)
    ]
    disks = [outcome.data for outcome in outcomes if isinstance(outcome, Content)]
    if len(disks) != 2:
        return None
    return looks_like(case, place, disks[0], disks[1], found.offset)


def _command(words: tuple[str, ...], program: str = "qemu-img") -> str:
    return shlex.join((program, *words))


def _versions(setup: Setup) -> Iterator[str]:
    rows = [setup.oracle.version, setup.subject.version, f"qemu-img {setup.tools.version}"]
    rows += [f"qcow2crypt {qcow2crypt.__version__}", f"{platform.system()} {platform.machine()}"]
    yield from (f"- {row}" for row in dict.fromkeys(rows))


def _again(setup: Setup) -> str:
    words = ["qcow2crypt", "difftest", "--case", CASE, "--subject", setup.subject.name]
    words += ["--oracle", setup.oracle.name]
    if setup.writer is not None and setup.writer.name != "ours":
        words += ["--writer", setup.writer.name]
    return shlex.join(words)
