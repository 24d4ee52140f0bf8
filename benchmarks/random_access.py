"""How long do small requests at random places of an image take, next to qemu-io?

    python -m benchmarks.random_access            all of it, in about two minutes
    python -m benchmarks.random_access --quick    few rounds, no file written

Opening a sparse disk of 10 TiB; 4 KiB read, written in place, and written into clusters that are
not there yet; plain and AES.  Who takes part works on the same image file, in turns, and every
turn is checked.  Prints a table, and writes a JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import qcow2crypt
from benchmarks import random_access_parts as parts
from benchmarks.engines import git, version
from qcow2crypt import engines
from qcow2crypt.bench.circumstances import cpu
from qcow2crypt.bench.workfolder import file_system

ROOT = Path(__file__).resolve().parents[1]

REQUEST = parts.REQUEST
ENGINES = ("native", "pycryptodome")
CLUSTER_SIZES = (65536, 4096)
FULL_BYTES = 64 << 20  # of the image that is read and written over: all of it allocated
EMPTY_BYTES = 1 << 30  # of the image that gets clusters
HUGE_BYTES = 10 << 40
ASKED = {("read", True): 25.0, ("write", True): 60.0}  # microseconds, by operation and encryption
TITLES = {
    "read": "read, cached",
    "write": "write in place",
    "fill": "write new clusters, and flush",
    "nothing": "a command that reads 0 bytes",
}

Make = Callable[[Path], parts.Worker]
Times = tuple[float, float]
"""Wall seconds and processor seconds of one turn."""


@dataclass(frozen=True)
class Row:
    """Microseconds for one request: of the median round and of the best; processor time too."""

    image: str
    operation: str
    contender: str
    rounds: int
    requests: int
    median_us: float
    best_us: float
    cpu_us: float | None
    asked_us: float | None

    @property
    def verdict(self) -> str:
        """Whether the median is what was asked for."""
        if self.asked_us is None:
            return ""
        return "reached" if self.median_us < self.asked_us else "FALLS SHORT"


@dataclass(frozen=True)
class Kind:
    """One sort of image."""

    aes: bool
    cluster_size: int

    @property
    def title(self) -> str:
        """For the table."""
        return f"{'AES' if self.aes else 'plain'}, {self.cluster_size // 1024} KiB clusters"


class Bench:
    """All turns on the images in one folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.missing: dict[str, str] = {}
        self.rows: list[Row] = []
        self.qemu = shutil.which("qemu-io") is not None
        if not self.qemu:
            self.missing["qemu-io"] = "it is not installed (Debian: qemu-utils)"
        self.engines = []
        for engine in engines.status().engines:
            if engine.name in options.engines and engine.available:
                self.engines.append(engine.name)
            elif engine.name in options.engines:
                self.missing[f"engine {engine.name}"] = engine.reason

    def contenders(self, kind: Kind) -> dict[str, Make]:
        """Who takes part, by name: each opens the image that it is given."""
        found: dict[str, Make] = {}
        for engine in self.engines if kind.aes else ["no engine"]:
            name = f"qcow2crypt, {engine}" if kind.aes else "qcow2crypt"
            chosen = engine if kind.aes else None
            found[name] = partial(parts.Library, aes=kind.aes, engine=chosen)
        if self.qemu:
            found["qemu-io"] = partial(parts.QemuIo, aes=kind.aes)
        return found

    def run(self, kind: Kind) -> None:
        """Everything on one sort of image."""
        full = self.folder / f"full-{kind.aes}-{kind.cluster_size}.qcow2"
        empty = self.folder / "empty.qcow2"
        parts.create(full, FULL_BYTES, kind.cluster_size, aes=kind.aes)
        draw = random.Random(kind.cluster_size)
        pieces = [draw.randrange(FULL_BYTES // REQUEST) for _ in range(self.options.requests)]
        clusters = draw.sample(range(EMPTY_BYTES // kind.cluster_size), self.options.fills)
        per_cluster = kind.cluster_size // REQUEST
        fresh = [c * per_cluster + draw.randrange(per_cluster) for c in clusters]
        contenders = self.contenders(kind)
        times: dict[tuple[str, str], list[Times]] = {
            (operation, name): []
            for operation in TITLES
            for name in contenders
            if operation != "nothing" or name == "qemu-io"
        }
        for turn in range(self.options.rounds):
            parts.fill(full, FULL_BYTES, aes=kind.aes)
            self._check(full, pieces[:200], 0, contenders)
            for number, (name, make) in enumerate(contenders.items(), 1 + turn * len(contenders)):
                for operation in TITLES:
                    if (operation, name) not in times:
                        continue
                    path, where = full, pieces
                    if operation == "fill":
                        path, where = empty, fresh
                        parts.create(empty, EMPTY_BYTES, kind.cluster_size, aes=kind.aes)
                    with parts.working(make, path) as worker:
                        times[operation, name].append(worker.timed(operation, where, number))
                    if operation in {"write", "fill"}:
                        self._check(path, where[-50:], number, contenders)
        for (operation, name), found in times.items():
            self._add(kind, operation, name, found)

    def _check(self, path: Path, pieces: list[int], turn: int, readers: dict[str, Make]) -> None:
        """See that an image is sound and holds what a turn wrote, whoever reads it."""
        parts.check_image(path)
        for make in readers.values():
            with parts.working(make, path) as worker:
                worker.check(pieces, turn)

    def _add(self, kind: Kind, operation: str, name: str, rounds: list[Times]) -> None:
        count = self.options.fills if operation == "fill" else self.options.requests
        wall = [1e6 * seconds / count for seconds, _ in rounds]
        used = [1e6 * seconds / count for _, seconds in rounds if not math.isnan(seconds)]
        row = Row(
            kind.title,
            operation,
            name,
            len(rounds),
            count,
            round(statistics.median(wall), 2),
            round(min(wall), 2),
            round(statistics.median(used), 2) if used else None,
            ASKED.get((operation, kind.aes)) if name.startswith("qcow2crypt") else None,
        )
        self.rows.append(row)
        asked = f"{row.asked_us:g}" if row.asked_us else ""
        processor = "" if row.cpu_us is None else f"{row.cpu_us:.1f}"
        print(
            f"{kind.title:24}{TITLES[operation]:32}{name:26}{row.median_us:9.1f}"
            f"{row.best_us:9.1f}{processor:>10}{asked:>7}  {row.verdict}".rstrip(),
            flush=True,
        )


def open_huge(bench: Bench) -> list[dict[str, Any]]:
    """A sparse AES disk of 10 TiB: opened, one sector read, closed."""
    path = bench.folder / "huge.qcow2"
    parts.create(path, HUGE_BYTES, 65536, aes=True)
    place, sector = HUGE_BYTES // 2, bytes([7]) * 512
    with qcow2crypt.open(path, parts.PASSPHRASE, "r+") as image:
        image.pwrite(sector, place)
    found: list[dict[str, Any]] = []

    def add(what: str, contender: str, samples: list[float], memory: int | None = None) -> None:
        middle, best = 1e3 * statistics.median(samples), 1e3 * min(samples)
        kept = "" if memory is None else f"  {memory / 1024:.0f} KiB of memory at most"
        print(f"{what:45}{contender:26}{middle:9.2f} ms (best {best:.2f}){kept}", flush=True)
        item = {"what": what, "contender": contender, "samples": len(samples)}
        item |= {"median_ms": round(middle, 3), "best_ms": round(best, 3), "peak_bytes": memory}
        found.append(item)

    def once(engine: str) -> None:
        with qcow2crypt.open(path, parts.PASSPHRASE, engine=engine) as image:
            if image.pread(512, place) != sector:
                raise SystemExit("the sector of the huge disk was not read back")

    for engine in bench.engines:
        samples = []
        once(engine)
        for _ in range(4 * bench.options.rounds):
            start = time.perf_counter()
            once(engine)
            samples.append(time.perf_counter() - start)
        tracemalloc.start()
        once(engine)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        once(engine)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        add("10 TiB: open, read one sector, close", f"qcow2crypt, {engine}", samples, peak)
    for name, command in parts.whole_processes(path, place, qemu=bench.qemu).items():
        samples = []
        for _ in range(bench.options.rounds):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            samples.append(time.perf_counter() - start)
        add("the same as a process from start to end", name, samples)
    return found


def circumstances(bench: Bench, load: tuple[float, ...]) -> dict[str, Any]:
    """What a reader needs to know to make sense of the figures."""
    return {
        "benchmark": "random_access",
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "--", "qcow2crypt", "csrc")),
        "cpu": cpu(),
        "processors": os.cpu_count(),
        "load_before": [round(x, 2) for x in load],
        "system": f"{platform.system()} {platform.machine()} {platform.release()}",
        "file_system": file_system(bench.folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {
            "qemu-io": parts.qemu_version() if bench.qemu else "not installed",
            "pycryptodome": version("pycryptodome") or "not installed",
        },
        "missing": bench.missing,
        "clock": "wall; cpu_us is processor time: of our thread, of all threads of qemu-io",
        "work": "requests of 4 KiB at multiples of 4 KiB, one after the other; host file cached",
        "qemu_io_includes": (
            "reading each command from its standard input, a file, and parsing it; a buffer made "
            "and filled for it; the prompt. See the rows of the command that reads 0 bytes"
        ),
    }


@contextmanager
def working_folder(parent: Path | None) -> Iterator[Path]:
    """A folder for the images, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="qcow2crypt-bench-", dir=parent) as folder:
        yield Path(folder)


def default_output() -> Path:
    """A file for this kind of machine and Python; a later run replaces it."""
    number = ".".join(platform.python_version_tuple()[:2])
    kind = f"{platform.system()}-{platform.machine()}-{platform.python_implementation()}{number}"
    return ROOT / "benchmarks" / "results" / f"random_access-{kind.lower()}.json"


def command_line() -> argparse.Namespace:
    """What is to be measured, and how long."""
    parser = argparse.ArgumentParser(description="Small requests at random places of an image.")
    parser.add_argument("--quick", action="store_true", help="few rounds, no file")
    parser.add_argument("--engines", nargs="+", default=ENGINES, help="those of qcow2crypt")
    parser.add_argument("--rounds", type=int, default=15, help="samples of everything")
    parser.add_argument("--requests", type=int, default=3000, help="in a sample")
    parser.add_argument("--fills", type=int, default=500, help="new clusters in a sample")
    parser.add_argument("--folder", type=Path, help="where the images are made")
    parser.add_argument("--output", type=Path, help="the JSON file")
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 3)
    return options


def main() -> None:
    """Measure, print, and write the file."""
    options = command_line()
    load: tuple[float, ...] = os.getloadavg() if hasattr(os, "getloadavg") else ()
    if load and load[0] > 1:
        print(f"the machine is busy (load {load[0]:.1f}): all figures will be too high")
    with working_folder(options.folder) as folder:
        bench = Bench(folder, options)
        for name, reason in bench.missing.items():
            print(f"not measured: {name}: {reason}")
        opening = open_huge(bench)
        print(f"\n{'microseconds for a request':82}{'median':>9}{'best':>9}{'cpu':>10}{'asked':>7}")
        for aes in (False, True):
            for cluster_size in CLUSTER_SIZES:
                bench.run(Kind(aes, cluster_size))
        report = circumstances(bench, load) | {
            "opening": opening,
            "requests": [asdict(row) | {"verdict": row.verdict} for row in bench.rows],
        }
    output = options.output or (None if options.quick else default_output())
    if output:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
