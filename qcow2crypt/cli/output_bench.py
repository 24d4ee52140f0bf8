"""The result of ``bench`` as text: tables in columns, then the answer in words."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qcow2crypt.bench.table import LEGEND, Table, facts, tables
from qcow2crypt.cli.terminal import printable

WIDTH_WITHOUT_TERMINAL = 100
_GAP = "  "


def bench_lines(document: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """All of it, no wider than ``width``; None asks the terminal."""
    columns = width or shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0)).columns
    for line in facts(document):
        yield from _wrapped(printable(line), columns, "  ")
    for table in tables(document):
        yield ""
        yield from _wrapped(f"{table.title} ({table.unit})", columns, "")
        yield from table_lines(table, columns)
    yield ""
    yield from _wrapped(LEGEND, columns, "")
    for paragraph in document["answer"]["text"]:
        yield ""
        yield paragraph["about"]
        for line in paragraph["lines"]:
            yield from _wrapped(f"  {line}", columns, "    ")


def table_lines(table: Table, width: int) -> Iterator[str]:
    """A table in columns; one that is too wide goes on below with its first column again.

    Headings stand on as many lines as they have words.
    """
    heads = [table.header[:1], *map(_words, table.header[1:])]
    texts = [[cell.text for cell in row] for row in table.rows]
    sizes = [
        max(map(len, (*head, *(row[place] for row in texts)))) for place, head in enumerate(heads)
    ]
    for group in _groups(sizes, width):
        places = [0, *group]
        depth = max(len(heads[place]) for place in places)
        lines = [
            [([""] * (depth - len(heads[place])) + [*heads[place]])[level] for place in places]
            for level in range(depth)
        ]
        lines += [[row[place] for place in places] for row in texts]
        for line in lines:
            first, *rest = zip(line, places, strict=True)
            yield (
                _GAP
                + _GAP.join(
                    [first[0].ljust(sizes[0]), *(word.rjust(sizes[place]) for word, place in rest)]
                ).rstrip()
            )


def _groups(sizes: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns but the first, as many together as there is room for; at least one."""
    room = width - len(_GAP) - sizes[0]
    group: list[int] = []
    used = 0
    for place, size in list(enumerate(sizes))[1:]:
        if group and used + len(_GAP) + size > room:
            yield group
            group, used = [], 0
        group.append(place)
        used += len(_GAP) + size
    yield group


def _words(name: str) -> list[str]:
    """A heading on several lines: "native:aesni" and "64 KiB" stay whole."""
    size, _, unit = name.partition(" ")
    return [name] if size.isdigit() and unit else name.split()


def _wrapped(line: str, width: int, hanging: str) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]
