"""The figures as tables of text, from the document alone.

A cell knows the figure that it shows, as it stands in the document; a table knows nothing of
terminals or HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from qcow2crypt.bench.subjects import in_words

Row = Mapping[str, Any]
Document = Mapping[str, Any]


class Cell(NamedTuple):
    """What is shown, and the figure that it stands for; None for a word or nothing."""

    text: str
    figure: float | None = None


class Table(NamedTuple):
    """One table.  ``unit`` tells what the figures are."""

    title: str
    unit: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


SPEED, TIME = "MB/s", "microseconds"
LEGEND = "Figures are medians; after ± half the distance of the quartiles. MB are 10**6 bytes."


def tables(document: Document) -> Iterator[Table]:
    """All tables of a run, those without a row left out."""
    cipher, conversion, requests = (document[name] for name in ("cipher", "conversion", "requests"))
    yield from _some(cipher, "what", _cipher)
    yield from _some(conversion, "what", _conversion)
    for size in dict.fromkeys(row["size"] for row in requests):
        own = [row for row in requests if row["size"] == size]
        yield from _some(own, "what", _requests)
    yield from _start(document["start"])


def facts(document: Document) -> Iterator[str]:
    """What a reader needs to know of the run, a line each."""
    where, settings = document["circumstances"], document["settings"]
    kernel = f", kernel {where['kernel']}" if where["kernel"] else ""
    yield f"{where['cpu']}, {where['processors']} processors; {where['system']}"
    yield f"qcow2crypt {where['qcow2crypt']}, engine {where['engine']}{kernel}; {where['python']}"
    yield from where["programs"].values()
    yield (
        f"{where['date']}; rounds after one to warm up: {settings['rounds']}, all in turns; "
        f"{settings['seconds']} seconds; files on {where['file-system']}"
    )
    yield from (f"not measured: {one['what']}: {one['why']}" for one in document["missing"])


def column(row: Row) -> str:
    """The heading of what one program does with one kind of image.

    >>> column({"who": "qemu-img", "encryption": "aes", "instructions": "off"})
    'qemu-img AES, instructions off'
    """
    if row["encryption"] == "none":
        return f"{row['who']} plain"
    return f"{row['who']} AES" + (", instructions off" if row["instructions"] == "off" else "")


def figure(row: Row, unit: str) -> Cell:
    """The cell of one figure: median and, after ±, half the distance of the quartiles."""
    if unit == SPEED:
        number, text = row["mb-per-s"], speed_text(row["mb-per-s"])
    else:
        number, text = row["seconds"], f"{row['seconds'] * 1e6:.1f}"
    return Cell(f"{text} ±{row['spread'] / 2:.0%}", number)


def speed_text(speed: float) -> str:
    """MB/s with no more digits than mean something.

    >>> speed_text(1.234), speed_text(56.78), speed_text(12345.6)
    ('1.2', '57', '12346')
    """
    return f"{speed:.1f}" if speed < 10 else f"{speed:.0f}"


def _some(
    rows: Sequence[Row], key: str, make: Callable[[str, Sequence[Row]], Table]
) -> Iterator[Table]:
    for value in dict.fromkeys(row[key] for row in rows):
        yield make(value, [row for row in rows if row[key] == value])


def _cipher(what: str, rows: Sequence[Row]) -> Table:
    sizes = sorted({row["size"] for row in rows})
    found = {(_engine(row), row["size"]): figure(row, SPEED) for row in rows}
    names = list(dict.fromkeys(name for name, _ in found))
    lines = tuple(
        (Cell(name), *(found.get((name, size), Cell("")) for size in sizes)) for name in names
    )
    header = ("bytes of a call", *map(in_words, sizes))
    return Table(f"The cipher alone: {what}", SPEED, header, lines)


def _engine(row: Row) -> str:
    off = row["who"] == "openssl" and row["instructions"] == "off"
    return f"{row['who']}, instructions off" if off else str(row["who"])


def _conversion(what: str, rows: Sequence[Row]) -> Table:
    size = in_words(rows[0]["size"])
    return _by_cluster(f"Conversion: {what}, a disk of {size}", SPEED, rows)


def _requests(what: str, rows: Sequence[Row]) -> Table:
    size = in_words(rows[0]["size"])
    return _by_cluster(f"Random {what}s of {size}", TIME, rows)


def _by_cluster(title: str, unit: str, rows: Sequence[Row]) -> Table:
    found = {(row["cluster-size"], column(row)): figure(row, unit) for row in rows}
    names = sorted(dict.fromkeys(map(column, rows)), key=lambda name: name.split()[0])
    lines = tuple(
        (Cell(in_words(size)), *(found.get((size, name), Cell("")) for name in names))
        for size in sorted({size for size, _ in found})
    )
    return Table(title, unit, ("clusters of", *names), lines)


def _start(rows: Sequence[Row]) -> Iterator[Table]:
    if rows:
        lines = tuple(
            (Cell(f"{row['who']}, to an image: {_kind(row)}"), figure(row, TIME)) for row in rows
        )
        title = "Converting one sector, not in the speeds of conversions"
        yield Table(title, TIME, ("what", "time"), lines)


def _kind(row: Row) -> str:
    return "plain" if row["encryption"] == "none" else "AES"
