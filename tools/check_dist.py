"""What must be in the wheel and the sdist, and what must not.

    python tools/check_dist.py dist

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
WHEEL_TAG = "py3-none-any"


def check_wheel(path: Path) -> list[str]:
    """Everything that is wrong with the wheel at ``path``, a sentence each."""
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = f"qcow2crypt-{_version()}.dist-info"
        metadata_name = f"{info}/METADATA"
        metadata = archive.read(metadata_name).decode() if metadata_name in names else ""
    expected = {str(path) for path in source_files() if path.parts[0] == "qcow2crypt"}
    code = {name for name in names if not name.startswith(f"{info}/")}
    problems = [] if path.name.endswith(f"-{WHEEL_TAG}.whl") else [f"its tag is not {WHEEL_TAG}"]
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


def main(folder: Path) -> int:
    """Check the one wheel and the one sdist in ``folder``; give the exit status."""
    status = 0
    for pattern, check in (("*.whl", check_wheel), ("*.tar.gz", check_sdist)):
        archives = sorted(folder.glob(pattern))
        if len(archives) != 1:
            sys.exit(f"{folder} should hold one {pattern}, it holds {len(archives)}")
        problems = check(archives[0])
        print(f"{archives[0].name}: " + ("as it should be" if not problems else "not right"))
        for problem in problems:
            print(f"  {problem}")
        status |= bool(problems)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
