"""Put what ``qcow2crypt lab all`` prints into docs/lab.md.

    python tools/lab_document.py

What stands between the two marks of each demonstration is replaced, and the picture beside it.  A
test holds the document against a run.  Needs qemu-img.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from qcow2crypt.cli.output_lab import lab_lines
from qcow2crypt.lab import DEMONSTRATIONS
from qcow2crypt.lab.base import Pixels
from qcow2crypt.lab.png import png
from qcow2crypt.lab.qemu import Qemu
from qcow2crypt.lab.session import Shown, show

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "lab.md"
PICTURE = ROOT / "docs" / "lab-picture.png"
WIDTH = 100
_SCALE = 2
_GAP = 4


def text(shown: Shown) -> str:
    """What stands between the marks of one demonstration."""
    lines = "\n".join(lab_lines([shown], WIDTH))
    return f"\n\n```text\n{lines}\n```\n\n"


def filled(document: str, shown: Sequence[Shown]) -> str:
    """The document with the output of these demonstrations in it."""
    for one in shown:
        name = one.demonstration.name
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"docs/lab.md has no place for {name}")
        document = before + begin + text(one) + end + after
    return document


def picture(shown: Shown) -> bytes:
    """The first four pictures of ``picture`` side by side: plain, ECB, one IV, legacy AES."""
    parts = [one for one in shown.result.pictures if isinstance(one, Pixels)][:4]
    side = parts[0].width
    palette = [(255, 255, 255)]
    rows = [bytearray() for _ in range(side)]
    for part in parts:
        shift = len(palette)
        palette += part.palette
        for number in range(side):
            cells = part.cells[number * side : (number + 1) * side]
            rows[number] += bytes(cell + shift for cell in cells) + bytes(_GAP)
    wide = [bytes(cell for cell in row[:-_GAP] for _ in range(_SCALE)) for row in rows]
    whole = b"".join(row * _SCALE for row in wide)
    return png(len(wide[0]), whole, palette)


def main() -> None:
    """Run all of them, and write."""
    qemu = Qemu.find()
    if qemu is None:
        sys.exit("qemu-img is not here: the document shows what QEMU says")
    shown = show(tuple(DEMONSTRATIONS), qemu=qemu)
    DOCUMENT.write_text(filled(DOCUMENT.read_text("utf-8"), shown), "utf-8")
    (one,) = [each for each in shown if each.demonstration.name == "picture"]
    PICTURE.write_bytes(picture(one))
    print(f"{DOCUMENT}, {PICTURE}")


if __name__ == "__main__":
    main()
