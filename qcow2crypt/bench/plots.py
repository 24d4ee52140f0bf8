"""Which plots a report has, from the document alone; how they are drawn is ``svg``'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qcow2crypt.bench.subjects import in_words
from qcow2crypt.bench.svg import Line, Plot, Point
from qcow2crypt.bench.table import TIME, Document, Row, column, speed_text

_COLOURS = {"qcow2crypt": 0, "qemu-img": 1, "qemu-io": 1}
_DASHES = {("aes", "allowed"): "", ("none", "allowed"): "7 5", ("aes", "off"): "2 5"}


def plots(document: Document) -> Iterator[Plot]:
    """Conversions and requests by cluster size, which is the question; the cipher by calls."""
    cipher, conversion, requests = (document[name] for name in ("cipher", "conversion", "requests"))
    for what in dict.fromkeys(row["what"] for row in conversion):
        own = [row for row in conversion if row["what"] == what]
        lines = _lines(own, column, "cluster-size", speed=True)
        title = f"Conversion: {what}"
        yield Plot(title, "cluster size in bytes", "MB/s, more is better", lines)
    kinds = dict.fromkeys((row["what"], row["size"]) for row in requests)
    for what, size in kinds:
        own = [row for row in requests if (row["what"], row["size"]) == (what, size)]
        lines = _lines(own, column, "cluster-size", speed=False)
        title = f"Random {what}s of {in_words(size)}"
        yield Plot(title, "cluster size in bytes", f"{TIME}, less is better", lines)
    for what in ("encrypt", "decrypt"):
        own = [row for row in cipher if row["what"] == what]
        if own:
            lines = _lines(own, _engine, "size", speed=True)
            title = f"The cipher alone: {what}"
            yield Plot(title, "bytes of a call", "MB/s, more is better", lines)


def _engine(row: Row) -> str:
    return f"{row['who']}, off" if row["who"] == "openssl" and _is_off(row) else str(row["who"])


def _is_off(row: Row) -> bool:
    return bool(row["instructions"] == "off")


def _lines(
    rows: Sequence[Row], name_of: Callable[[Row], str], key: str, *, speed: bool
) -> tuple[Line, ...]:
    names = list(dict.fromkeys(map(name_of, rows)))
    found = []
    for number, name in enumerate(names):
        own = sorted((row for row in rows if name_of(row) == name), key=lambda row: row[key])
        points = tuple(_point(row, key, speed=speed) for row in own if row["seconds"] > 0)
        who, encryption, way = (own[0][k] for k in ("who", "encryption", "instructions"))
        if key == "size":
            colour, dash = number, "2 5" if way == "off" else ""
        else:
            colour, dash = _COLOURS.get(who, number), _DASHES.get((encryption, way), "7 5")
        found.append(Line(name, points, colour, dash))
    return tuple(found)


def _point(row: Row, key: str, *, speed: bool) -> Point:
    seconds, low, high = row["seconds"], row["low"], row["high"]
    if speed:
        speed_of, size = row["mb-per-s"], row["size"]
        least, most = (size / end / 1e6 if end > 0 else speed_of for end in (high, low))
        return Point(row[key], speed_of, least, most, f"{speed_text(speed_of)} MB/s")
    told = f"{seconds * 1e6:.1f} {TIME}"
    return Point(row[key], seconds * 1e6, low * 1e6, high * 1e6, told)
