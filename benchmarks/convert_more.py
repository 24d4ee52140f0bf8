"""What else a conversion costs: sparse and compressed sources, growth, and reading by the library.

    python -m benchmarks.convert_more                     in /dev/shm, some minutes
    python -m benchmarks.convert_more --quick             small and once, writes no file
    python -m benchmarks.convert_more --sections sparse compressed growth library

Whole processes in turns, as in convert.py; "library" reads an image in one process, by turns with
libqcow's Python binding where that is installed.  Every output is compared with its source once.
Prints tables, and writes a JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.convert import (
    OURS,
    PASSPHRASE,
    free_memory,
    held_memory,
    run,
    touch_memory,
    version_of_qemu,
)
from benchmarks.engines import git, version
from qcow2crypt.bench.circumstances import cpu

ROOT = Path(__file__).resolve().parents[1]

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SECTIONS = ("sparse", "compressed", "growth", "library")
"""What loads this package here comes last: the memory of a new process counts from ours."""
Row = dict[str, Any]


class Reader(Protocol):
    """Reads all of an encrypted image; gives the SHA-256 if it is wanted."""

    def __call__(self, image: Path, *, digest: bool) -> str:  # noqa: D102
        ...


class Bench:
    """A folder, the key, and how often a command is run."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.rounds = 1 if quick else 5
        self.key = folder / "key"
        self.key.write_text(PASSPHRASE)
        self.out = folder / "out"

    def path(self, name: str) -> Path:
        """A file in the folder."""
        return self.folder / name

    def ours(self, source: Path, *words: str, threads: int = 2) -> list[str]:
        """Our command line: from ``source`` to the output."""
        return [*OURS, "-m", str(threads), *words, str(source), str(self.out)]

    def to_aes(self, cluster_size: int = 65536) -> list[str]:
        """Our words for an encrypted target."""
        options = f"encrypt.format=aes,cluster_size={cluster_size}"
        return ["-f", "raw", "-O", "qcow2", "-o", options, "--target-secret-file", str(self.key)]

    def from_aes(self) -> list[str]:
        """Our words for an encrypted source and a raw target."""
        return ["-O", "raw", "--secret-file", str(self.key)]

    def qemu(self, source: Path, *words: str) -> list[str]:
        """The same by qemu-img, into an encrypted or a raw target."""
        secret = ["--object", f"secret,id=key,file={self.key}"]
        return ["qemu-img", "convert", *secret, *words, str(source), str(self.out)]

    def qemu_to_aes(self, cluster_size: int = 65536) -> list[str]:
        """qemu-img's words for an encrypted target."""
        options = f"encrypt.format=aes,encrypt.key-secret=key,cluster_size={cluster_size}"
        return ["-f", "raw", "-O", "qcow2", "-o", options]

    def aes_opened(self, image: Path) -> str:
        """An encrypted image in qemu-img's words."""
        return f"driver=qcow2,encrypt.format=aes,encrypt.key-secret=key,file.filename={image}"

    def qemu_from_aes(self, image: Path) -> list[str]:
        """Decryption by qemu-img."""
        secret = ["--object", f"secret,id=key,file={self.key}"]
        opened = ["--image-opts", self.aes_opened(image)]
        return ["qemu-img", "convert", *secret, "-O", "raw", *opened, str(self.out)]

    def same_as(self, raw: Path, *, encrypted: bool) -> None:
        """Whether the output has the guest disk ``raw``.  Raises CalledProcessError."""
        secret = ["--object", f"secret,id=key,file={self.key}", "--image-opts"]
        form = self.aes_opened(self.out) if encrypted else f"driver=raw,file.filename={self.out}"
        run(["qemu-img", "compare", *secret, form, f"driver=raw,file.filename={raw}"])

    @contextlib.contextmanager
    def other_memory_held(self, size: int) -> Iterator[None]:
        """All free memory but ``size`` bytes, which then are the only ones to be touched."""
        with held_memory(0 if self.quick else max(0, free_memory() - size)):
            yield

    def measured(
        self, rows: dict[str, list[str]], check: Callable[[str], None], rounds: int | None = None
    ) -> list[Row]:
        """Run the commands by turns; the first round fills the page cache and is checked."""
        size = MIB
        for who, words in rows.items():
            self.out.unlink(missing_ok=True)
            run(words)
            check(who)
            size = max(size, self.out.stat().st_blocks * 512)
        self.out.unlink(missing_ok=True)
        samples: dict[str, list[tuple[float, float, float]]] = {who: [] for who in rows}
        with self.other_memory_held(2 * size):
            for _ in range(rounds or self.rounds):
                for who, words in rows.items():
                    touch_memory(0 if self.quick else free_memory())
                    samples[who].append(run(words))
                    self.out.unlink(missing_ok=True)
        return [
            {
                "who": who,
                "median_s": round(statistics.median(wall for wall, _, _ in found), 3),
                "least_s": round(min(wall for wall, _, _ in found), 3),
                "processor_s": round(min(work for _, work, _ in found), 3),
                "memory_mib": round(max(memory for _, _, memory in found), 1),
            }
            for who, found in samples.items()
        ]


def random_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    with path.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
    return path


def scattered(path: Path, size: int, data: int) -> Path:
    """A sparse file of ``size`` bytes with ``data`` bytes in it, in pieces of 1 MiB."""
    count = data // MIB
    with path.open("wb") as file:
        for number in range(count):
            file.seek(number * (size // count))
            file.write(os.urandom(MIB))
        file.truncate(size)
    return path


def sparse(bench: Bench) -> Iterator[Row]:
    """1 TiB with 1 GiB of data, and the same amount of data without holes."""
    data = 64 * MIB if bench.quick else GIB
    dense = random_file(bench.path("dense.raw"), data)
    holes = scattered(bench.path("sparse.raw"), TIB, data)
    rows = {
        "dense": bench.ours(dense, *bench.to_aes()),
        "sparse": bench.ours(holes, *bench.to_aes()),
    }
    sources = {"dense": dense, "sparse": holes}
    for row in bench.measured(rows, lambda who: bench.same_as(sources[who], encrypted=True)):
        yield {"work": "raw to AES", **row}
    images = {}
    for who, source in sources.items():
        bench.out.unlink(missing_ok=True)
        run(bench.ours(source, *bench.to_aes()))
        images[who] = bench.out.rename(bench.path(f"{who}.qcow2"))
    rows = {who: bench.ours(image, *bench.from_aes()) for who, image in images.items()}
    for row in bench.measured(rows, lambda who: bench.same_as(sources[who], encrypted=False)):
        yield {"work": "AES to raw", **row}
    for path in (*sources.values(), *images.values()):
        path.unlink()


def files_of_python(path: Path, size: int) -> Path:
    """What disks hold: programs, texts and libraries, here those of Python, again and again.

    Each 64 KiB are compressed alone, so the repetition does not make them any shorter.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = (one for one in sorted(root.rglob("*")) if one.is_file())
    names = [one for one in found if "site-packages" not in one.parts]
    left = size
    with path.open("wb") as file:
        for name in itertools.cycle(names):
            with name.open("rb") as part:
                while piece := part.read(min(MIB, left)):
                    left -= file.write(piece)
            if not left:
                return path
    raise SystemExit(f"there are no files in {root}")


def without(libraries: Sequence[str], words: list[str]) -> list[str]:
    """Our command line in a Python that lacks some libraries."""
    hidden = "; ".join(f"sys.modules[{name!r}] = None" for name in libraries)
    program = f"import runpy, sys; {hidden}; runpy.run_module('qcow2crypt', run_name='__main__')"
    return [words[0], "-c", program, *words[words.index("convert") :]]


def compressed(bench: Bench) -> Iterator[Row]:
    """A compressed source, made by qemu-img, to raw; also without the libraries of ``fast``."""
    raw = files_of_python(bench.path("files.raw"), (32 if bench.quick else 512) * MIB)
    libraries = [name for name in ("zlib_ng", "zstandard") if importlib.util.find_spec(name)]
    for kind in ("zlib", "zstd"):
        image = bench.path(f"{kind}.qcow2")
        options = f"compression_type={kind}"
        run(["qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, str(raw), str(image)])
        rows = {
            "qemu-img": ["qemu-img", "convert", "-O", "raw", str(image), str(bench.out)],
            "qcow2crypt -m1": bench.ours(image, "-O", "raw", threads=1),
            "qcow2crypt -m2": bench.ours(image, "-O", "raw", threads=2),
        }
        if libraries:
            rows["qcow2crypt -m2 not fast"] = without(libraries, rows["qcow2crypt -m2"])
        ratio = round(raw.stat().st_size / image.stat().st_size, 2)
        for row in bench.measured(rows, lambda _: bench.same_as(raw, encrypted=False)):
            yield {"work": f"{kind} to raw", **row, "compressed": ratio}
        image.unlink()
    raw.unlink()


def library(bench: Bench) -> Iterator[Row]:
    """An AES image read through the library, 1 MiB after the other."""
    size = (16 if bench.quick else 256) * MIB
    raw, image = random_file(bench.path("read.raw"), size), bench.path("read.qcow2")
    run(bench.ours(raw, *bench.to_aes()))
    bench.out.rename(image)
    readers: dict[str, Reader] = {"qcow2crypt": read_ours}
    if importlib.util.find_spec("pyqcow") is None:
        print("libqcow's pyqcow is not installed (pip install libqcow-python): left out")
    else:
        readers["pyqcow"] = read_pyqcow
    expected = hashlib.sha256(raw.read_bytes()).hexdigest()
    samples: dict[str, list[float]] = {who: [] for who in readers}
    for number in range(bench.rounds + 1):
        for who, read in readers.items():
            start = time.perf_counter()
            found = read(image, digest=not number)
            if number:
                samples[who].append(time.perf_counter() - start)
            elif found != expected:
                raise SystemExit(f"{who} read something else")
    for who, times in samples.items():
        yield {
            "work": "AES read by a library",
            "who": f"{who} {version(who if who != 'pyqcow' else 'libqcow-python')}",
            "median_s": round(statistics.median(times), 3),
            "least_s": round(min(times), 3),
        }
    raw.unlink()
    image.unlink()


def read_ours(image: Path, *, digest: bool) -> str:
    """Read all by our library."""
    import qcow2crypt  # not before, see SECTIONS

    found = hashlib.sha256()
    with qcow2crypt.open(image, secret=PASSPHRASE) as disk:
        while part := disk.read(MIB):
            if digest:
                found.update(part)
    return found.hexdigest()


def read_pyqcow(image: Path, *, digest: bool) -> str:
    """Read all by libqcow."""
    found = hashlib.sha256()
    disk = importlib.import_module("pyqcow").file()
    disk.set_password(PASSPHRASE)
    disk.open(str(image))
    while part := disk.read_buffer(MIB):
        if digest:
            found.update(part)
    disk.close()
    return found.hexdigest()


def growth(bench: Bench) -> Iterator[Row]:
    """Time and memory by size, by clusters and by threads."""
    sizes = [64, 256] if bench.quick else [64, 256, 1024, 4096, 16384]
    for mib in sizes:
        size = mib * MIB
        raw = bench.path("grow.raw")
        if mib > 4096:  # what the memory has no room for three times is sparse
            scattered(raw, size, 2 * GIB)
        else:
            random_file(raw, size)
        yield from both_ways(bench, raw, {"mib": mib, "cluster_size": 65536}, 1 if mib > 256 else 3)
    raw = random_file(bench.path("grow.raw"), (16 if bench.quick else 256) * MIB)
    for cluster_size in (512, 4096, 65536, 2 * MIB):
        more = {"mib": 256, "cluster_size": cluster_size}
        yield from both_ways(bench, raw, more, 1 if cluster_size == 512 else 3)
    for threads in (1, 2, 3, 4):
        side_by_side = ["-m", str(threads), "-W"]
        rows = {
            f"qcow2crypt -m{threads}": bench.ours(raw, *bench.to_aes(), threads=threads),
            f"qemu-img -m{threads} -W": bench.qemu(raw, *side_by_side, *bench.qemu_to_aes()),
        }
        for row in bench.measured(rows, lambda _: bench.same_as(raw, encrypted=True), 3):
            yield {"work": "raw to AES", "mib": 256, "cluster_size": 65536, **row}
    raw.unlink()


def both_ways(bench: Bench, raw: Path, more: Row, rounds: int) -> Iterator[Row]:
    """Encrypt and decrypt, by everybody."""
    cluster_size = more["cluster_size"]
    rows = {
        "cp": ["cp", "--sparse=auto", str(raw), str(bench.out)],
        "qemu-img": bench.qemu(raw, *bench.qemu_to_aes(cluster_size)),
        "qcow2crypt -m2": bench.ours(raw, *bench.to_aes(cluster_size)),
    }
    check = {"cp": False, "qemu-img": True, "qcow2crypt -m2": True}
    for row in bench.measured(rows, lambda who: bench.same_as(raw, encrypted=check[who]), rounds):
        yield {"work": "raw to AES", **more, **row}
    image = bench.path("grow.qcow2")
    run(bench.ours(raw, *bench.to_aes(cluster_size)))
    bench.out.rename(image)
    rows = {
        "qemu-img": bench.qemu_from_aes(image),
        "qcow2crypt -m2": bench.ours(image, *bench.from_aes()),
    }
    for row in bench.measured(rows, lambda _: bench.same_as(raw, encrypted=False), rounds):
        yield {"work": "AES to raw", **more, **row}
    image.unlink()


def show(row: Row) -> None:
    """One line."""
    size = f"{row['mib']} MiB" if "mib" in row else ""
    print(
        f"{row['work']:22}{size:>10}{row.get('cluster_size', ''):>9}  {row['who']:24}"
        f"{row['median_s']:9.3f} s {row.get('memory_mib', ''):>7}",
        flush=True,
    )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--quick", action="store_true", help="small, once, no file written")
    given = parser.parse_args()
    if shutil.which("qemu-img") is None:
        print("qemu-img is not installed: there is nothing to compare with")
        return 1
    found: dict[str, list[Row]] = {}
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        bench = Bench(Path(folder), quick=given.quick)
        for section in given.sections:
            rows = found[section] = []
            for row in globals()[section](bench):
                show(row)
                rows.append(row)
    if not given.quick:
        document = {
            "cpu": cpu(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "commit": git("rev-parse", "HEAD"),
            "qemu-img": version_of_qemu(),
            "load": [before, os.getloadavg()[0]],
            **found,
        }
        system = f"{platform.system().lower()}-{platform.machine()}"
        path = ROOT / "benchmarks" / "results" / f"convert_more-{system}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
