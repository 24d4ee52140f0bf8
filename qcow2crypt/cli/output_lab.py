"""What demonstrations gave, as text for a terminal.  Knows results, not how they came about."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from qcow2crypt.cli.output_bench import WIDTH_WITHOUT_TERMINAL
from qcow2crypt.lab.base import QEMU, ByteMap, Claim, Demonstration, Picture, Pixels
from qcow2crypt.lab.page import verdict
from qcow2crypt.lab.search import Marks, Stages
from qcow2crypt.lab.session import Shown
from qcow2crypt.units import BLOCK_SIZE

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

Paint: TypeAlias = Callable[[Pixels], list[str]]

_SIDES = {
    "flaw": "Figures of this run",
    "contrast": "How others do it, by the same measurement",
}
_ROWS_MOST = 6
_GROUPS_MOST = 5
_FEWEST_TOLD = 8
"""As many sectors that begin alike as fit in 4 KiB: fewer may be data that counts by itself."""


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def list_lines(demonstrations: Sequence[Demonstration]) -> Iterator[str]:
    """The demonstrations there are."""
    for one in demonstrations:
        yield f"  {one.name:<11}{one.title}"


def lab_lines(
    shown: Sequence[Shown], width: int | None = None, paint: Paint | None = None
) -> Iterator[str]:
    """All of it, no wider than ``width``; None asks the terminal.

    ``paint`` makes lines of pictures; without it there are none.  Only lines to copy and bytes may
    be wider.
    """
    columns = width or shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0)).columns
    for number, one in enumerate(shown):
        if number:
            yield from ("", "")
        yield from _demonstration(one, columns, paint)


def _demonstration(shown: Shown, width: int, paint: Paint | None) -> Iterator[str]:
    demonstration, result = shown
    yield demonstration.title
    yield "=" * min(len(demonstration.title), width)
    yield from _paragraphs((demonstration.claim, *demonstration.story), width)
    for picture in result.pictures:
        lines = _picture(picture, width, paint)
        if lines:
            yield ""
            yield from _wrapped(f"{picture.title}: {picture.about}", width)
            yield from lines
    size = max(len(claim.told) for claim in result.claims)
    for side, words in _SIDES.items():
        yield ""
        yield words
        for claim in result.claims:
            if claim.side == side:
                yield from _claim(claim, size, width)
    not_run = (f"Not run: {line}." for line in result.not_run)
    yield from _paragraphs((*demonstration.answer, *not_run), width)
    yield ""
    yield from _to_try(shown, width)
    yield ""
    yield "Sources"
    for source in demonstration.sources:
        yield from _wrapped(source.title, width, "  ", "  ")
        yield f"    {source.url}"
    yield from _paragraphs([verdict(result)], width)


def _paragraphs(texts: Sequence[str], width: int) -> Iterator[str]:
    for text in texts:
        yield ""
        yield from _wrapped(text, width)


def _to_try(shown: Shown, width: int) -> Iterator[str]:
    yield f"To try, in a folder made by: qcow2crypt lab {shown.demonstration.name} --keep FOLDER"
    for command in shown.result.commands:
        yield from _wrapped(command.shows, width, "  # ", "  # ")
        yield f"  {command.line}"


def _claim(claim: Claim, size: int, width: int) -> Iterator[str]:
    head = "  " + claim.told.rjust(size) + "  "
    gap = " " * len(head)
    yield from _wrapped(claim.sentence, width, head, gap)
    by = "by QEMU; " if claim.by == QEMU else ""
    missed = "" if claim.holds else "DOES NOT HOLD: "
    yield from _wrapped(f"({by}{missed}{claim.expected})", width, gap, gap)


def _picture(picture: Picture, width: int, paint: Paint | None) -> list[str]:
    """Bytes always; what has colours where there are some, and room."""
    if isinstance(picture, ByteMap):
        return list(_bytes(picture))
    return paint(picture) if paint is not None and picture.width <= width else []


def painter() -> Paint | None:
    """What draws pictures on this terminal; None where it has no colours."""
    from rich.console import Console

    console = Console()
    if console.color_system is None or console.no_color or "utf" not in console.encoding.lower():
        return None
    return paint_on(console)


def paint_on(console: RichConsole) -> Paint:
    """What draws pictures as this console shows colours."""
    from rich.text import Text

    def paint(picture: Pixels) -> list[str]:
        """A letter for two cells, one above the other: its upper half is the colour of the ink."""
        colours = [f"rgb({red},{green},{blue})" for red, green, blue in picture.palette]
        width, cells = picture.width, picture.cells
        with console.capture() as drawn:
            for at in range(0, len(cells), 2 * width):
                below = cells[at + width : at + 2 * width] or cells[at : at + width]
                line = Text(no_wrap=True, overflow="crop")
                for upper, lower in zip(cells[at : at + width], below, strict=True):
                    line.append("\u2580", f"{colours[upper]} on {colours[lower]}")
                console.print(line)
        return drawn.get().splitlines()

    return paint


def _bytes(picture: ByteMap) -> Iterator[str]:
    """The rows in which something is marked, and a row around them."""
    rows = [
        (at // BLOCK_SIZE, picture.data[at : at + BLOCK_SIZE], picture.marks[at : at + BLOCK_SIZE])
        for at in range(0, len(picture.data), BLOCK_SIZE)
    ]
    marked = [number for number, _, marks in rows if set(marks) - {"."}] or [0]
    near = {number + step for number in marked for step in (-1, 0, 1)}
    for number, data, marks in [row for row in rows if row[0] in near][:_ROWS_MOST]:
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
        under = "".join(" " if mark == "." else "^" for mark in marks).rstrip()
        yield f"  {number:2}  {data.hex(' '):<47}  {text}"
        if under and under != "^" * len(marks):
            yield " " * 55 + under


def marks_lines(name: str, found: Marks) -> Iterator[str]:
    """What the search for marks found in a given image."""
    yield f"{name}: {found.encryption}, {found.sectors:,} encrypted sectors"
    if found.zero:
        yield f"  {found.zero:,} sectors are all zeros in the file: never written, not looked at"
    sectors = sum(map(len, found.groups))
    if not sectors:
        yield "  no two sectors of the disk begin with the same ciphertext block: no mark"
        return
    yield (
        f"  {sectors:,} sectors begin with a ciphertext block that another sector of the disk has, "
        "too; by chance: 0"
    )
    for group in found.groups[:_GROUPS_MOST]:
        more = "" if len(group) <= _GROUPS_MOST else ", ..."
        yield f"    {len(group):6,}: sectors {', '.join(map(str, group[:_GROUPS_MOST]))}{more}"
    if len(found.groups) > _GROUPS_MOST:
        yield f"    and {len(found.groups) - _GROUPS_MOST:,} more groups"
    yield f"  {_meaning(found)}"


def _meaning(found: Marks) -> str:
    if found.encryption == "luks":
        return "in a LUKS image that means a mode without IVs (ECB), or IVs that come again"
    if len(found.groups[0]) >= _FEWEST_TOLD:
        return "that is a watermark, or data that holds its own sector number"
    return "groups as small as this may be data that counts; a watermark has 8 and more"


def stages_lines(name: str, encryption: str, stages: Sequence[Stages]) -> Iterator[str]:
    """What the snapshots of a given image tell."""
    yield f"{name}: {encryption}, {len(stages)} snapshot{'s' * (len(stages) != 1)}"
    if not stages:
        yield "  there is nothing to compare"
    for one in stages:
        yield (
            f"  '{one.snapshot}': {one.both:,} sectors are stored then and now, {one.rewritten:,} "
            "of them at another place of the file"
        )
        yield f"    {one.equal:,} of these have equal ciphertext: nothing changed in them"
        count = sum(last - first + 1 for first, last in one.changed)
        if one.equal and count:
            yield f"    {count:,} differ: the guest changed them. {_ranges(one)}"
        elif count:
            yield f"    {count:,} differ; since none are equal, that need not mean a change"


def _ranges(stage: Stages) -> str:
    shown = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in stage.changed[:_GROUPS_MOST]
    ]
    more = ", ..." if len(stage.changed) > _GROUPS_MOST else ""
    return f"Sectors {', '.join(shown)}{more}"
