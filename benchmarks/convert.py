"""How long does a conversion take, next to qemu-img and cp?

    python -m benchmarks.convert            512 MiB of random data in /dev/shm
    python -m benchmarks.convert --mib 64 --rounds 1 --quick      writes no file
    python -m benchmarks.convert --folder /var/tmp --clusters 65536         on a disk
    python -m benchmarks.convert --mib 4096 --clusters 65536 --rounds 3

Whole processes, one after the other: for each size of cluster all of them once a round.  The memory
is warm, because the first round does not count, and free memory is touched before each.  In the
first round every output is compared with the source, images with the one by qemu-img.  On a disk
ours syncs and the peers do not, so there each does both.
Prints a table, and writes a JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import git
from qcow2crypt.bench.circumstances import cpu

ROOT = Path(__file__).resolve().parents[1]

ONE_PROCESS = ROOT / "benchmarks" / "one_process.py"
PASSPHRASE = "correct horse"
QEMU = "qemu-img"
DEFAULT_MIB = 512
CLUSTER_SIZES = (65536, 512, 4096, 2 << 20)
OURS = (sys.executable, "-m", "qcow2crypt", "convert", "-q")
SYNCED, UNSAFE = " -t writeback", " -t unsafe"
"""On a disk, what a peer is told that shall sync as we do, and we that shall not, as peers do."""
AES = "encrypt.format=aes,cluster_size="
FOR_FILES, FOR_PAGE_CACHE = 3.25, 16
"""So many times the size of the source is enough memory: in memory for the three files, on a disk
for a page cache that writes nothing out yet on its own."""
LONG = 60.0
"""What takes more seconds is measured once, in the first round."""
_MADV_POPULATE_WRITE = 23  # since Linux 5.14, and not in Python


@dataclass(frozen=True)
class Row:
    """One command: what it does, on which clusters, and who does it."""

    work: str
    cluster_size: int
    who: str
    words: list[str]


@dataclass(frozen=True)
class Figures:
    """Seconds on the clock (median, least), of the processor (least), and most memory in MiB."""

    work: str
    cluster_size: int
    who: str
    median: float
    least: float
    processor: float
    memory: float


class Inputs:
    """The files that are converted, and the commands for it: one size of cluster at a time."""

    def __init__(self, folder: Path, size: int) -> None:
        self.cluster_size = 0
        self.on_disk = kind_of(folder) != "tmpfs"
        self.raw = folder / "source.raw"
        self.key = folder / "key"
        self.out = folder / "out"
        self.key.write_text(PASSPHRASE)
        with self.raw.open("wb") as file:
            for _ in range(0, size, 1 << 20):
                file.write(os.urandom(1 << 20))
        self.image = folder / "source.qcow2"

    def use_clusters(self, size: int) -> None:
        """Make the encrypted source with clusters of so many bytes, in place of the last one."""
        self.cluster_size = size
        self.out.unlink(missing_ok=True)
        run(self.qemu("-O", "qcow2", "-o", self.aes(), str(self.raw), str(self.image)))
        self.check_tables(self.image)

    def aes(self) -> str:
        """The option of qemu-img for an encrypted target."""
        return f"{AES}{self.cluster_size},encrypt.key-secret=key"

    def qemu(self, *words: str) -> list[str]:
        """A command line of qemu-img."""
        return [QEMU, "convert", "--object", f"secret,id=key,file={self.key}", *words]

    def opened(self, path: Path) -> str:
        """An encrypted image, in qemu-img's words."""
        return f"driver=qcow2,encrypt.format=aes,encrypt.key-secret=key,file.filename={path}"

    def rows(self) -> Iterator[Row]:
        """All that is measured."""
        raw, out = str(self.raw), str(self.out)
        yield Row("copy", self.cluster_size, "cp", ["cp", raw, out])
        if self.on_disk:
            both = 'cp "$0" "$1" && sync "$1"'
            yield Row("copy", self.cluster_size, "cp, sync", ["sh", "-c", both, raw, out])
        for row in self.conversions():
            yield row
            cached = SYNCED if row.words[0] == QEMU else UNSAFE
            if self.on_disk and not row.who.endswith("-m1"):
                at = row.words.index("convert") + 1
                words = [*row.words[:at], *cached.split(), *row.words[at:]]
                yield Row(row.work, row.cluster_size, row.who + cached, words)

    def conversions(self) -> Iterator[Row]:
        """Those that are measured anywhere: each syncs or not, as it does without a word."""
        raw, out, image, size = str(self.raw), str(self.out), str(self.image), self.cluster_size
        given = ["--secret-file", str(self.key)]
        new = ["--target-secret-file", str(self.key), "-O", "qcow2", "-o", f"{AES}{size}"]
        wanted = ["-O", "qcow2", "-o", self.aes()]
        opened = ["--image-opts", self.opened(self.image)]
        fast = ["-m", "16", "-W"]
        yield Row("raw to AES", size, QEMU, self.qemu(*wanted, raw, out))
        yield Row("raw to AES", size, "qemu-img -m16 -W", self.qemu(*fast, *wanted, raw, out))
        yield Row("AES to raw", size, QEMU, self.qemu("-O", "raw", *opened, out))
        yield Row("AES to AES", size, QEMU, self.qemu(*wanted, *opened, out))
        for threads in ("1", "2"):
            who = f"qcow2crypt -m{threads}"
            start = [*OURS, "-m", threads]
            yield Row("raw to AES", size, who, [*start, *new, raw, out])
            yield Row("AES to raw", size, who, [*start, *given, image, out])
            yield Row("AES to AES", size, who, [*start, *given, *new, image, out])

    def check(self, row: Row) -> None:
        """Whether the guest disk is the same in the output.  Raises CalledProcessError."""
        if row.work in {"copy", "AES to raw"}:
            run(["cmp", str(self.raw), str(self.out)])
        elif "-W" not in row.words:
            run(["cmp", str(self.image), str(self.out)])
        else:  # qemu-img's clusters, at other places each time
            words = [*OURS, "--secret-file", str(self.key), str(self.out), "-"]
            run(["sh", "-c", '"$@" | cmp - "$0"', str(self.raw), *words])
            self.check_tables(self.out)

    def check_tables(self, path: Path) -> None:
        """What ``qemu-img check`` says of an image.  Raises CalledProcessError."""
        words = ["--object", f"secret,id=key,file={self.key}", "--image-opts", self.opened(path)]
        run([QEMU, "check", "-q", *words])


def run(words: list[str]) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of the processor, and MiB of one process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what an installed package has, too
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ONE_PROCESS), *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, stderr=done.stderr)
    wall, processor, memory = map(float, done.stdout.split())
    return wall, processor, memory / 1024


def touch_memory(size: int) -> None:
    """Make so much free memory fit for use.

    A virtual machine may give free memory back to its host, and wait for it when it is wanted
    again.  Without this, whoever comes first after a pause pays, up to three times all the rest.
    Several GiB may take some seconds.
    """
    held_memory(size).close()


def held_memory(size: int) -> mmap.mmap:
    """Memory of this process until it is closed; some of it where ``size`` is 0."""
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # what is given back: this takes a third of the time
        memory.madvise(mmap.MADV_HUGEPAGE)
    try:
        memory.madvise(_MADV_POPULATE_WRITE)
    except OSError:
        memory[:: mmap.PAGESIZE] = bytes(-(-len(memory) // mmap.PAGESIZE))
    return memory


def free_memory() -> int:
    """In bytes, but for half a GiB; 0 where it is not told."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:")]
    return max(0, sum(found) - (512 << 20))


def version_of_qemu() -> str:
    """The first line that qemu-img says of itself."""
    done = subprocess.run(
        ["qemu-img", "--version"],  # noqa: S607 - whichever the user has
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[0]


def kind_of(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(folder)],  # noqa: S607 - coreutils
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def measure(inputs: Inputs, rounds: int) -> list[Figures]:
    """All rows in turns; a round before the first fills the page cache and checks the outputs."""
    rows = list(inputs.rows())
    samples: list[list[tuple[float, float, float]]] = [[] for _ in rows]
    for number in range(rounds + 1):
        for row, found in zip(rows, samples, strict=True):
            if found and found[0][0] > LONG:
                continue
            inputs.out.unlink(missing_ok=True)
            touch_memory(free_memory())
            sample = run(row.words)
            print(
                f"{number}/{rounds} {row.cluster_size} {row.work}, {row.who}: {sample[0]:.2f} s",
                file=sys.stderr,
            )
            if number or sample[0] > LONG:
                found.append(sample)
            if not number:
                inputs.check(row)
    return [
        Figures(
            row.work,
            row.cluster_size,
            row.who,
            round(statistics.median(wall for wall, _, _ in found), 3),
            round(min(wall for wall, _, _ in found), 3),
            round(min(processor for _, processor, _ in found), 3),
            round(max(memory for _, _, memory in found), 1),
        )
        for row, found in zip(rows, samples, strict=True)
    ]


def show(figures: list[Figures]) -> None:
    """The table: in brackets how many times the speed of qemu-img's default."""
    peers = {(one.work, one.cluster_size): one for one in figures if one.who == QEMU}
    head = (
        f"{'':12}{'clusters':>10}  {'':32}{'median s':>10}{'':8}{'processor s':>12}{'':8}{'MiB':>6}"
    )
    print(head)
    for one in figures:
        peer = peers.get((one.work, one.cluster_size), one)
        times = f"({peer.median / one.median:.1f}x)"
        work = f"({peer.processor / max(one.processor, 0.001):.1f}x)"
        print(
            f"{one.work:12}{one.cluster_size or '':>10}  {one.who:32}{one.median:10.2f}{times:>8}"
            f"{one.processor:12.2f}{work:>8}{one.memory:6.0f}"
        )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=DEFAULT_MIB)
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTER_SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108
    parser.add_argument("--quick", action="store_true", help="write no file")
    given = parser.parse_args()
    if shutil.which("qemu-img") is None:
        print("qemu-img is not installed: there is nothing to compare with")
        return 1
    before = os.getloadavg()[0]
    size = given.mib << 20
    enough = int(size * (FOR_FILES if kind_of(given.folder) == "tmpfs" else FOR_PAGE_CACHE))
    figures: list[Figures] = []
    # What is held need not be touched again and again.
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as folder,
        held_memory(max(0, free_memory() - enough)),
    ):
        inputs = Inputs(Path(folder), size)
        for cluster_size in given.clusters:
            inputs.use_clusters(cluster_size)
            figures += measure(inputs, given.rounds)
            if not given.quick:
                print(write(figures, given, before).relative_to(ROOT), file=sys.stderr)
    show(figures)
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    return 0


def write(figures: list[Figures], given: argparse.Namespace, load: float) -> Path:
    """What there is so far, as JSON; gives the name of the file."""
    document: dict[str, Any] = {
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "commit": git("rev-parse", "HEAD"),
        "qemu-img": version_of_qemu(),
        "mib": given.mib,
        "folder": kind_of(given.folder),
        "rounds": given.rounds,
        "load": [load, os.getloadavg()[0]],
        "figures": [asdict(one) for one in figures],
    }
    system = f"{platform.system().lower()}-{platform.machine()}"
    place = "" if document["folder"] == "tmpfs" else "-disk"
    place += "" if given.mib == DEFAULT_MIB else f"-{given.mib}"
    path = ROOT / "benchmarks" / "results" / f"convert-{system}{place}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
