"""Builds the C test programs of tests/native/c together with csrc, and runs them.

Knows compilers, flags and which sources make which program; knows nothing of what is tested.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from source_tree import ROOT
from support.vectors import cases, load

CSRC = ROOT / "csrc"
TESTS = ROOT / "tests" / "native" / "c"

WARNINGS = (
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
    "-Wconversion",
    "-Wshadow",
)
AS_SHIPPED = ("-O3",)
# Everything that the sanitizers find ends the program.  clang takes half a minute for the widest
# kernel when it optimises and sanitizes at once, so it does not optimise.
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
DRIVER = (
    "main.c",
    "helpers.c",
    "region.c",
    "vectors.c",
    "runs.c",
    "arguments.c",
    "wiping.c",
    "plain_aes.c",
)
WRAP = ("-Wl,--wrap=calloc", "-Wl,--wrap=free")  # see wiping.c


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compile: a word for it, the compiler as a command, its flags."""

    name: str
    compiler: tuple[str, ...]
    flags: tuple[str, ...]


GCC = Variant("gcc", ("gcc",), AS_SHIPPED)
CLANG = Variant("clang", ("clang",), AS_SHIPPED)
GCC_SANITIZED = Variant("gcc-sanitized", ("gcc",), ("-O1", *SANITIZE))
CLANG_SANITIZED = Variant("clang-sanitized", ("clang",), ("-O0", *SANITIZE))
ARM_GCC = Variant("arm-gcc", ("aarch64-linux-gnu-gcc",), AS_SHIPPED)
ARM_CLANG = Variant("arm-clang", ("clang", "--target=aarch64-linux-gnu"), AS_SHIPPED)


def core(*without: str) -> list[Path]:
    """The sources of csrc, but for those named."""
    return [path for path in sorted(CSRC.glob("*.c")) if path.name not in without]


def compile_once(
    folder: Path,
    program: str,
    variant: Variant,
    sources: Sequence[Path],
    *flags: str,
) -> Path:
    """The path of ``program``, made in ``folder``.  Compilers take long over the widest kernel, so
    a source is compiled once for all programs of a variant, and by one test process.
    """
    objects = [_compiled(folder, variant, source) for source in sources]
    command: list[str | Path] = [*variant.compiler, *variant.flags, *objects, *flags]
    return once(folder / f"{program}-{variant.name}", command)


def _compiled(folder: Path, variant: Variant, source: Path) -> Path:
    command = [*variant.compiler, *WARNINGS, *variant.flags, "-fPIC", f"-I{CSRC}", f"-I{TESTS}"]
    made = folder / f"{source.parent.name}-{source.stem}-{variant.name}.o"
    return once(made, [*command, "-c", source])


def once(made: Path, command: Sequence[str | Path]) -> Path:
    """``made``, by a compiler with these words, unless another test process has made it."""
    with made.with_name(f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_name(f"{made.name}.unfinished")
            run([*command, "-o", unfinished])
            unfinished.rename(made)
    return made


def driver(folder: Path, variant: Variant) -> Path:
    """The C test driver; tests/native/c/main.c lists its commands."""
    sources = [*core(), *(TESTS / name for name in DRIVER)]
    return compile_once(folder, "driver", variant, sources, *WRAP)


def run(command: Sequence[str | Path], **environment: str) -> str:
    """What ``command`` prints.  Fails, with all it said, when its exit status is not 0."""
    done = attempt(command, **environment)
    assert done.returncode == 0, "\n".join(
        [f"exit status {done.returncode}: {' '.join(map(str, command))}", done.stdout, done.stderr]
    )
    return done.stdout


def attempt(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``command`` with nothing in its environment but PATH and what is given."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        timeout=280,
    )


def vector_lines() -> list[str]:
    """The vectors of tests/vectors in the form that tests/native/c/vectors.c reads."""
    lines = []
    for name in ("fips197", "sp800-38a-cbc", "cavp-ecb", "cavp-cbc", "sectors"):
        for case in cases(name):
            ivs = [] if case.iv is None else [case.iv]
            fields = [case.key, *ivs, case.plaintext, case.ciphertext]
            word = "cbc" if ivs else "ecb"
            lines.append(" ".join([word, *(field.hex() for field in fields)]))
    for chain in load("cavp-cbc-mct")["chains"]:
        texts = [chain[name] for name in ("key", "iv", "input", "output")]
        lines.append(" ".join([f"mct-{chain['direction']}", *texts]))
    for row in load("sectors")["ivs"]:
        if row["generator"] == "plain64":
            lines.append(f"plain64 {int(row['sector'], 16):016x} {row['iv']}")
    return lines
