"""Compile the C part of the sector benchmark, and let it measure a plan.

The kernels and the peers are compiled in a temporary folder, with the compiler that CC names or
the first that is found, and the -O3 of csrc/build_ffi.py; no flag names an instruction set.  A
peer whose library is not installed is left out and said to be missing.
What a plan is stands in peers/main.c.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "csrc"
PEERS = ROOT / "benchmarks" / "peers"
OPTIMIZE = ("-O3",)
FLAGS = (*OPTIMIZE, "-Wall", "-Wextra", "-I", str(SOURCES), "-I", str(PEERS))

# The library behind peers/NAME.c, and where Debian has it.
LIBRARIES = {
    "openssl": ("crypto", "libssl-dev"),
    "nettle": ("nettle", "nettle-dev"),
    "ipsecmb": ("IPSec_MB", "libipsec-mb-dev"),
}


@dataclass(frozen=True)
class Program:
    """The compiled program, and what it was made with."""

    path: Path
    compiler: str
    missing: dict[str, str]


@dataclass(frozen=True)
class Job:
    """A contender at one piece of work: ``sectors`` sectors in each of ``threads`` threads."""

    contender: str
    direction: str = "enc"
    key_bits: int = 128
    sectors: int = 128
    place: str = "in"
    threads: int = 1

    @property
    def name(self) -> str:
        """A word for it, as the program wants one."""
        work = f"{self.direction}.{self.key_bits}.{self.sectors}.{self.place}.{self.threads}"
        return f"{self.contender}.{work}"


@dataclass(frozen=True)
class Times:
    """Seconds of one call, in each round: processor time of the thread, and by the wall.

    ``calls`` is of how many a sample was made, in the first process.
    """

    cpu: tuple[float, ...]
    wall: tuple[float, ...]
    calls: int


class BuildError(Exception):
    """The C part cannot be compiled or run here; the message says why."""


class NoCompilerError(BuildError):
    """There is nothing to compile it with."""


def run(command: list[str], text: str = "") -> str:
    """What a program prints; BuildError with its own words when it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        words = ("cannot find", "error")
        lines = [s for word in words for s in done.stderr.splitlines() if word in s]
        lines.append(done.stderr)
        raise BuildError(f"{Path(command[0]).name}: {lines[0].strip()}")
    return done.stdout


def find_compiler() -> list[str]:
    """The words that call the C compiler."""
    chosen = os.environ.get("CC", "").split()
    found = chosen or [name for name in ("gcc", "cc", "clang") if shutil.which(name)][:1]
    if not found:
        raise NoCompilerError("no C compiler: install gcc, or name one in CC")
    return found


def build(folder: Path) -> Program:
    """Compile everything into ``folder``."""
    compiler = find_compiler()
    sources = sorted(SOURCES.glob("*.c"))
    peers = [path for path in sorted(PEERS.glob("*.c")) if path.stem != "main"]

    def compiled(source: Path) -> Path | BuildError:
        made = folder / f"{source.parent.name}-{source.stem}.o"
        try:
            run([*compiler, *FLAGS, "-c", str(source), "-o", str(made)])
            if source in peers and source.stem in LIBRARIES:
                check_link(compiler, made, source.stem)
        except BuildError as error:
            return error
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = dict(zip(sources + peers, pool.map(compiled, sources + peers), strict=True))
    objects, options, missing = [], [], {}
    for source, result in made.items():
        if isinstance(result, Path):
            objects.append(str(result))
        elif source in peers and source.stem in LIBRARIES:
            package = LIBRARIES[source.stem][1]
            missing[source.stem] = f"{result} (in Debian: {package})"
        else:
            raise result
    for name, (library, _) in LIBRARIES.items():
        if name not in missing:
            options += [f"-DWITH_{name.upper()}", f"-l{library}"]
    path = folder / "sectors"
    main = [*compiler, *FLAGS, str(PEERS / "main.c"), *objects, *options, "-pthread"]
    run([*main, "-o", str(path)])
    return Program(path, run([*compiler, "--version"]).splitlines()[0], missing)


def check_link(compiler: list[str], made: Path, name: str) -> None:
    """Is the library there, not its headers alone?"""
    text = f"int {name}_contenders(void *); int main(void) {{ return {name}_contenders(0); }}"
    source = made.with_suffix(".link.c")
    source.write_text(text, encoding="ascii")
    out = str(made.with_suffix(".link"))
    run([*compiler, str(source), str(made), f"-l{LIBRARIES[name][0]}", "-o", out])


def contenders(program: Program) -> dict[str, str]:
    """What can be measured here, our kernels first, each with the version of its library."""
    words = (line.split(maxsplit=2) for line in run([str(program.path)]).splitlines())
    return {name: version for _, name, version in words}


def measure(
    program: Program, jobs: Iterable[Job], rounds: int, microseconds: float, starts: int = 1
) -> dict[Job, Times]:
    """Time the jobs in turns: in every round a sample of each.

    The rounds are those of ``starts`` processes, since each gets other pages of memory: which
    of them get in each other's way in a cache is left to chance, and then stays so.
    """
    jobs = list(dict.fromkeys(jobs))
    parts = [rounds // starts + (number < rounds % starts) for number in range(starts)]
    times = [_measure(program, jobs, part, microseconds) for part in parts if part]
    return {
        job: Times(
            sum((one[job].cpu for one in times), ()),
            sum((one[job].wall for one in times), ()),
            times[0][job].calls,
        )
        for job in jobs
    }


def _measure(
    program: Program, jobs: list[Job], rounds: int, microseconds: float
) -> dict[Job, Times]:
    """The rounds of one process."""
    lines = [f"group {rounds} {microseconds}"]
    for job in jobs:
        work = f"{job.direction} {job.key_bits} {job.sectors} {job.place} {job.threads}"
        lines.append(f"job {job.name} {job.contender} {work}")
    answer = run([str(program.path)], "\n".join([*lines, "go", ""]))
    found = {}
    for line in answer.splitlines():
        what, name, *rest = line.split()
        if what == "samples":
            calls, *times = rest
            seconds = tuple(map(float, times))
            found[name] = Times(seconds[0::2], seconds[1::2], int(calls))
    return {job: found[job.name] for job in jobs}
