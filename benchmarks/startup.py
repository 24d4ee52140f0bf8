"""What does a small command cost, most of which is the start of Python?

    python -m benchmarks.startup                  twenty rounds in /dev/shm, half a minute
    python -m benchmarks.startup --quick          five rounds, writes no file
    python3.13 -m benchmarks.startup              each Python has its own figures and file

Whole processes in turns: Python alone, the import of this package, and commands on an image of
1 MiB beside qemu-img doing the same.  The first round does not count: it makes memory warm, writes
compiled modules, and its outputs are checked.  Prints a table, and writes a JSON file to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.convert import PASSPHRASE, run, version_of_qemu
from benchmarks.engines import git
from qcow2crypt.bench.circumstances import cpu

ROOT = Path(__file__).resolve().parents[1]
SIZE = 1 << 20
PYTHON = (sys.executable, "-m", "qcow2crypt")
BARE, IMPORT = "python alone", "import qcow2crypt"
US, PEER = "qcow2crypt", "qemu-img"
IMPORT_MS = 30.0
BARE_TIMES, MORE_MS = 1.5, 50.0
"""What is asked: an import in 30 ms, a command in 1.5 times Python alone and 50 ms."""


@dataclass(frozen=True)
class Row:
    """One command: what it does, who does it, the words, and the file that it makes."""

    work: str
    who: str
    words: tuple[str, ...]
    made: Path | None = None


@dataclass(frozen=True)
class Figures:
    """Milliseconds: on the clock (median, least) and of the processor (median, least)."""

    work: str
    who: str
    median: float
    least: float
    processor: float
    processor_least: float


class Inputs:
    """The files that the commands work on, and the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key"
        self.key.write_text(PASSPHRASE)
        self.raw = folder / "source.raw"
        self.raw.write_bytes(os.urandom(SIZE))
        self.image = folder / "source.qcow2"
        self.secret = ("--object", f"secret,id=key,file={self.key}")
        aes = "encrypt.format=aes,encrypt.key-secret=key"
        self.new = ("-O", "qcow2", "-o", aes)
        run([PEER, "convert", *self.secret, *self.new, str(self.raw), str(self.image)])

    def opened(self, path: Path) -> str:
        """An encrypted image in qemu-img's words."""
        return f"driver=qcow2,encrypt.format=aes,encrypt.key-secret=key,file.filename={path}"

    def rows(self) -> Iterator[Row]:
        """All that is measured; for each command both programs get the same words."""
        yield Row(BARE, "", (sys.executable, "-c", "pass"))
        yield Row(IMPORT, "", (sys.executable, "-c", "import qcow2crypt"))
        new, raw = self.folder / "new.qcow2", self.folder / "new.raw"
        aes = (*self.secret, "-f", "qcow2", *self.new[2:])
        for who, start in ((US, PYTHON), (PEER, (PEER,))):
            image = str(self.image)
            opened = ("--image-opts", self.opened(self.image))
            yield Row("info", who, (*start, "info", image))
            yield Row("create", who, (*start, "create", "-q", *aes, str(new), str(SIZE)), new)
            convert = (*start, "convert", *self.secret)
            yield Row("raw to AES", who, (*convert, *self.new, str(self.raw), str(new)), new)
            yield Row("AES to raw", who, (*convert, *opened, "-O", "raw", str(raw)), raw)

    def check(self, row: Row) -> None:
        """Whether the file that was made holds what it should.  Raises CalledProcessError."""
        if row.made is None:
            return
        if row.work == "AES to raw":
            run(["cmp", str(self.raw), str(row.made)])
            return
        run([PEER, "check", "-q", *self.secret, "--image-opts", self.opened(row.made)])
        if row.work == "raw to AES":
            raw = f"driver=raw,file.filename={self.raw}"
            made = self.opened(row.made)
            run([PEER, "compare", "-q", *self.secret, "--image-opts", made, raw])


def measure(inputs: Inputs, rounds: int) -> list[Figures]:
    """All rows in turns; a round before the first makes memory warm and checks the outputs."""
    rows = list(inputs.rows())
    samples: list[list[tuple[float, float]]] = [[] for _ in rows]
    for number in range(rounds + 1):
        for row, found in zip(rows, samples, strict=True):
            if row.made is not None:
                row.made.unlink(missing_ok=True)
            wall, processor, _ = run(list(row.words))
            if number:
                found.append((1000 * wall, 1000 * processor))
            else:
                inputs.check(row)
    return [figures(row, found) for row, found in zip(rows, samples, strict=True)]


def figures(row: Row, samples: list[tuple[float, float]]) -> Figures:
    """The figures of one row."""
    walls, processors = zip(*samples, strict=True)
    return Figures(
        row.work,
        row.who,
        round(statistics.median(walls), 1),
        round(min(walls), 1),
        round(statistics.median(processors), 1),
        round(min(processors), 1),
    )


def asked(one: Figures, bare: Figures) -> float | None:
    """The milliseconds on the clock that are asked for, None for a row that nothing is asked of."""
    if one.work == IMPORT:
        return bare.median + IMPORT_MS
    return BARE_TIMES * bare.median + MORE_MS if one.who == US else None


def show(found: list[Figures]) -> None:
    """The table, in milliseconds."""
    print(f"{'':30}{'median':>9}{'least':>9}{'processor':>11}{'least':>9}{'asked':>9}")
    for one in found:
        limit = asked(one, found[0])
        print(
            f"{one.work:18}{one.who:12}{one.median:9.1f}{one.least:9.1f}{one.processor:11.1f}"
            f"{one.processor_least:9.1f}{'' if limit is None else f'{limit:.1f}':>9}"
        )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108
    parser.add_argument("--quick", action="store_true", help="five rounds, write no file")
    given = parser.parse_args()
    if shutil.which(PEER) is None:
        print("qemu-img is not installed: there is nothing to compare with")
        return 1
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(Inputs(Path(folder)), 5 if given.quick else given.rounds)
    show(found)
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    if not given.quick:
        version = platform.python_version()
        document = {
            "cpu": cpu(),
            "cpus": os.cpu_count(),
            "python": version,
            "commit": git("rev-parse", "HEAD"),
            "qemu-img": version_of_qemu(),
            "rounds": given.rounds,
            "load": [before, os.getloadavg()[0]],
            "figures": [asdict(one) | {"asked": asked(one, found[0])} for one in found],
        }
        kind = f"{platform.system()}-{platform.machine()}-{platform.python_implementation()}"
        name = f"startup-{kind}{version.rpartition('.')[0]}.json".lower()
        path = ROOT / "benchmarks" / "results" / name
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
