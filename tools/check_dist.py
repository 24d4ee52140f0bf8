"""What must be in the wheel and the sdist, and what must not.

    python tools/check_dist.py dist           # a wheel with or without compiled C kernels
    python tools/check_dist.py dist native    # with them
    python tools/check_dist.py dist pure      # without

Compares both with the source tree, so a new module, or a folder without ``__init__.py``, cannot
be left out unseen.  Prints each difference and exits with 1 when there is any.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

from source_tree import ROOT, source_files

REQUIRES_PYTHON = ">=3.10"
PURE_TAG = "py3-none-any"
NATIVE_TAG = re.compile(r"cp310-abi3-([a-z0-9_.]+)")
COMPILED = ("qcow2crypt/_native.abi3.so", "qcow2crypt/_native.pyd")
KERNELS = {
    "x86_64": ("vaes512", "vaes256", "aesni", "portable-avx2", "portable"),
    "aarch64": ("armv8", "portable"),
    "arm64": ("armv8", "portable"),
}


def check_wheel(path: Path, kind: str) -> list[str]:
    """Everything that is wrong with the wheel at ``path``, a sentence each."""
    info = f"qcow2crypt-{_version()}.dist-info"
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata, wheel = (
            archive.read(f"{info}/{name}").decode() if f"{info}/{name}" in names else ""
            for name in ("METADATA", "WHEEL")
        )
        compiled = {name: archive.read(name) for name in names if name.startswith(COMPILED)}
    expected = {str(path) for path in source_files() if path.parts[0] == "qcow2crypt"}
    code = {name for name in names if not name.startswith(f"{info}/")} - compiled.keys()
    problems = _check_kind(path, kind, wheel, compiled)
    problems += [f"lacks {name}" for name in sorted(expected - code)]
    problems += [f"has {name}, which is no file of the package" for name in sorted(code - expected)]
    problems += [f"lacks {name}" for name in _needed_in_wheel(info) if name not in names]
    if not any(name.startswith("qcow2crypt/data/") for name in names):
        problems.append("has nothing in qcow2crypt/data/: the demo image is missing")
    return problems + _check_metadata(metadata)


def check_sdist(path: Path) -> list[str]:
    """Everything that is wrong with the sdist at ``path``, a sentence each."""
    with tarfile.open(path) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    top = f"qcow2crypt-{_version()}/"
    names = {name.removeprefix(top) for name in members}
    made = {"PKG-INFO", "setup.cfg"}
    made |= {name for name in names if name.startswith("qcow2crypt.egg-info/")}
    expected = {str(path) for path in source_files()}
    problems = [f"lacks {name}" for name in sorted(expected - names)]
    problems += [
        f"has {name}, which is no file of the project" for name in sorted(names - expected - made)
    ]
    return problems


def _check_kind(path: Path, kind: str, wheel: str, compiled: dict[str, bytes]) -> list[str]:
    """The tag, what the wheel says of itself and what is compiled in it must go together."""
    tag = "-".join(path.stem.split("-")[-3:])
    native = NATIVE_TAG.fullmatch(tag)
    problems = []
    if not native and tag != PURE_TAG:
        problems.append(f"its tag is {tag}, neither {PURE_TAG} nor {NATIVE_TAG.pattern}")
    if kind != "any" and (kind == "native") is not bool(native):
        problems.append(f"its tag is {tag}, but it should be {kind}")
    pure = f"Root-Is-Purelib: {'false' if native else 'true'}"
    problems += [f"does not say {line}" for line in (pure, f"Tag: {tag}") if line not in wheel]
    if len(compiled) != bool(native):
        problems.append(f"has compiled files, {len(compiled)} of them: {sorted(compiled)}")
    machine = next((name for name in KERNELS if native and native[1].endswith(name)), "")
    for name, content in compiled.items():
        lost = [k for k in KERNELS.get(machine, ()) if k.encode() + b"\0" not in content]
        if lost:
            problems.append(f"lacks in {name} the kernels {', '.join(lost)}")
    return problems


def _needed_in_wheel(info: str) -> list[str]:
    return ["qcow2crypt/__init__.py", "qcow2crypt/py.typed", "qcow2crypt/cli/__init__.py"] + [
        f"{info}/{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")
    ]


def _check_metadata(text: str) -> list[str]:
    metadata = Parser().parsestr(text)
    wanted = {
        "Name": "qcow2crypt",
        "Version": _version(),
        "Requires-Python": REQUIRES_PYTHON,
        "License-Expression": "MIT",
    }
    return [
        f"says {field}: {metadata[field]}, not {value}"
        for field, value in wanted.items()
        if metadata[field] != value
    ]


def _version() -> str:
    text = (ROOT / "qcow2crypt" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit('qcow2crypt/_version.py has no line  __version__ = "..."')
    return found[1]


def main(folder: Path, kind: str) -> int:
    """Check the one wheel and the one sdist in ``folder``; give the exit status."""
    if kind not in ("any", "native", "pure"):
        sys.exit(f"a wheel is native, pure or any, not '{kind}'")
    status = 0
    for pattern in ("*.whl", "*.tar.gz"):
        archives = sorted(folder.glob(pattern))
        if len(archives) != 1:
            sys.exit(f"{folder} should hold one {pattern}, it holds {len(archives)}")
        is_wheel = pattern == "*.whl"
        problems = check_wheel(archives[0], kind) if is_wheel else check_sdist(archives[0])
        print(f"{archives[0].name}: " + ("as it should be" if not problems else "not right"))
        for problem in problems:
            print(f"  {problem}")
        status |= bool(problems)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "any"))
