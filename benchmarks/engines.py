"""How fast are the engines, next to what Python people use without them?

    python -m benchmarks.engines

Every contender encrypts and decrypts the same runs of 512-byte sectors, each sector with an IV of
its own, AES-128-CBC.  Its output is checked before it is timed.  The contenders take turns, so
that a slow moment of the machine meets all of them; the time is the processor time of the thread.
Prints tables and writes a JSON file to benchmarks/results.

The peers do what a program would do with them: one cipher object for each sector.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from qcow2crypt import engines
from qcow2crypt.bench.circumstances import cpu

ROOT = Path(__file__).resolve().parents[1]

SECTOR = 512
RUN_LENGTHS = (1, 16, 128, 512, 2048)
DIRECTIONS = ("encrypt", "decrypt")
BASELINE = "pyaes, per sector"
SAMPLE_SECONDS = 0.01  # a sample is as many calls as fit, at least one
TURNS = 25

# From (IVs, data) to the result, in one direction.
Work = Callable[[bytes, bytes], "bytes | bytearray"]


@dataclass(frozen=True)
class Contender:
    """``make(key, direction)`` gives the work, where the package is installed."""

    name: str
    package: str
    make: Callable[[bytes, str], Work]


@dataclass(frozen=True)
class Result:
    """Speeds in MB/s (10**6 bytes): of the median sample and of the best."""

    contender: str
    direction: str
    sectors: int
    samples: int
    calls_per_sample: int
    median_mb_s: float
    best_mb_s: float


def engine_work(name: str) -> Callable[[bytes, str], Work]:
    """One of our engines, from buffer to buffer."""

    def make(key: bytes, direction: str) -> Work:
        call = getattr(engines.get(name).expand_key(key), f"cbc_{direction}")
        out = bytearray()

        def work(ivs: bytes, data: bytes) -> bytearray:
            nonlocal out
            if len(out) != len(data):
                out = bytearray(len(data))
            call(ivs, data, out)
            return out

        return work

    return make


def pyaes_work(key: bytes, direction: str) -> Work:
    """pyaes, the widespread pure Python AES.  It works block by block."""
    mode: Any = import_module("pyaes").AESModeOfOperationCBC(key)
    call = getattr(mode, direction)

    def work(ivs: bytes, data: bytes) -> bytes:
        out = []
        for number, start in enumerate(range(0, len(data), SECTOR)):
            # What a new object would start with, without the cost of one: in its favour.
            mode._last_cipherblock = list(ivs[16 * number : 16 * number + 16])  # noqa: SLF001
            out += [call(data[at : at + 16]) for at in range(start, start + SECTOR, 16)]
        return b"".join(out)

    return work


def pycryptodome_work(key: bytes, direction: str) -> Work:
    """The package pycryptodome, used directly."""
    aes: Any = import_module("Crypto.Cipher.AES")

    def work(ivs: bytes, data: bytes) -> bytes:
        out = []
        for number, start in enumerate(range(0, len(data), SECTOR)):
            cipher = aes.new(key, aes.MODE_CBC, iv=ivs[16 * number : 16 * number + 16])
            out.append(getattr(cipher, direction)(data[start : start + SECTOR]))
        return b"".join(out)

    return work


def cryptography_work(key: bytes, direction: str) -> Work:
    """The package cryptography, which is OpenSSL."""
    ciphers: Any = import_module("cryptography.hazmat.primitives.ciphers")
    aes, cbc = ciphers.algorithms.AES(key), ciphers.modes.CBC

    def work(ivs: bytes, data: bytes) -> bytes:
        out = []
        for number, start in enumerate(range(0, len(data), SECTOR)):
            cipher = ciphers.Cipher(aes, cbc(ivs[16 * number : 16 * number + 16]))
            context = cipher.encryptor() if direction == "encrypt" else cipher.decryptor()
            out.append(context.update(data[start : start + SECTOR]))
        return b"".join(out)

    return work


PEERS = (
    Contender(BASELINE, "pyaes", pyaes_work),
    Contender("pycryptodome, per sector", "pycryptodome", pycryptodome_work),
    Contender("cryptography, per sector", "cryptography", cryptography_work),
)


def contenders() -> tuple[list[Contender], dict[str, str]]:
    """Those that can run here, and the others with the reason why not."""
    present, missing = [], {}
    for engine in engines.status().engines:
        label = f"engine {engine.name}"
        if engine.available:
            present.append(Contender(label, engine.name, engine_work(engine.name)))
        else:
            missing[label] = engine.reason
    for peer in PEERS:
        if version(peer.package):
            present.append(peer)
        else:
            missing[peer.name] = f"the package {peer.package} is not installed"
    return present, missing


def measure(present: list[Contender], sectors: int, direction: str, seconds: float) -> list[Result]:
    """Time all contenders on one run, in turns.  ``seconds`` is about how long each may take."""
    draw = random.Random(sectors).randbytes
    key, ivs, data = draw(16), draw(16 * sectors), draw(SECTOR * sectors)
    works = [contender.make(key, direction) for contender in present]
    if len({bytes(work(ivs, data)) for work in works}) != 1:
        raise SystemExit("the contenders do not give the same bytes: nothing was measured")

    calls, steps = [], []
    for work in works:
        once = max(clock(work, ivs, data, 1), 1e-7)
        calls.append(max(1, round(SAMPLE_SECONDS / once)))
        samples = max(3, min(TURNS, round(seconds / (calls[-1] * once))))
        steps.append(TURNS // samples)  # a slow one sits out some turns
    times: list[list[float]] = [[] for _ in works]
    for turn in range(TURNS):
        for work, count, step, own in zip(works, calls, steps, times, strict=True):
            if turn % step == 0:
                own.append(clock(work, ivs, data, count))
    return [
        Result(
            contender.name,
            direction,
            sectors,
            len(own),
            count,
            round(len(data) / statistics.median(own) / 1e6, 3),
            round(len(data) / min(own) / 1e6, 3),
        )
        for contender, count, own in zip(present, calls, times, strict=True)
    ]


def clock(work: Work, ivs: bytes, data: bytes, calls: int) -> float:
    """Seconds of processor time for one call, from ``calls`` of them."""
    start = time.thread_time()
    for _ in range(calls):
        work(ivs, data)
    return (time.thread_time() - start) / calls


def table(results: list[Result], direction: str, lengths: list[int]) -> str:
    """Medians in MB/s, and how many times the baseline each is."""
    found = {(r.contender, r.sectors): r for r in results if r.direction == direction}
    names = list(dict.fromkeys(name for name, _ in found))
    lines = [f"{direction}, MB/s (times {BASELINE})"]
    lines.append(f"{'sectors':26}" + "".join(f"{length:>18}" for length in lengths))
    for name in names:
        cells = []
        for length in lengths:
            speed = found[name, length].median_mb_s
            base = found.get((BASELINE, length))
            times = f" ({speed / base.median_mb_s:.1f}x)" if base else ""
            cells.append(f"{speed:.{1 if speed >= 10 else 2}f}{times}")
        lines.append(f"{name:26}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def circumstances(missing: dict[str, str]) -> dict[str, Any]:
    """What a reader needs to know to make sense of the figures."""
    return {
        "benchmark": "engines",
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "--", "qcow2crypt")),
        "cpu": cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {peer.package: version(peer.package) or "not installed" for peer in PEERS},
        "missing": missing,
        "clock": "processor time of the thread",
        "work": "AES-128-CBC, sectors of 512 bytes, an IV for each; MB are 10**6 bytes",
    }


def version(package: str) -> str:
    """The version of an installed package, "" for one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def git(*arguments: str) -> str:
    """What git says, "unknown" where it says nothing."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever git the user has
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def default_output() -> Path:
    """A file for this kind of machine and Python; a later run replaces it."""
    version = ".".join(platform.python_version_tuple()[:2])
    kind = f"{platform.system()}-{platform.machine()}-{platform.python_implementation()}{version}"
    return ROOT / "benchmarks" / "results" / f"engines-{kind.lower()}.json"


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description="Compare the speed of the engines.")
    parser.add_argument("--sectors", type=int, nargs="+", default=RUN_LENGTHS, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure, about")
    parser.add_argument("--output", type=Path, default=default_output(), help="the JSON file")
    options = parser.parse_args()

    present, missing = contenders()
    for name, reason in missing.items():
        print(f"not measured: {name}: {reason}")
    results = []
    for direction in DIRECTIONS:
        for sectors in options.sectors:
            results += measure(present, sectors, direction, options.seconds)
        print(table(results, direction, options.sectors), end="\n\n", flush=True)
    report = circumstances(missing) | {"results": [asdict(result) for result in results]}
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
