"""Which files belong to this project: the one answer for the house tests and the build check.

Knows git and nothing of what the files say.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What is made here and never kept, for a tree without git (an unpacked sdist): as in .gitignore.
_MADE_DIRS = {".git", ".venv", "build", "dist", "demo-out", "__pycache__"}
_MADE_DIRS |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
_MADE_FILES = (".o", ".so", ".pyc", ".pyo")


def source_files(*suffixes: str) -> list[Path]:
    """Paths from ROOT of all files of the project, sorted; of these name endings, if any are given.

    Files that are new and not yet committed count; ignored ones do not.
    """
    found = _git_files()
    if found is None:
        found = _walked_files()
    return sorted(path for path in found if not suffixes or path.name.endswith(suffixes))


def _git_files() -> list[Path] | None:
    """What git says; None in an unpacked sdist, without git, or where git refuses."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if listing.returncode != 0:
        return None
    paths = (Path(name) for name in listing.stdout.split("\0") if name)
    return [path for path in paths if (ROOT / path).is_file()]


def _walked_files() -> list[Path]:
    found: list[Path] = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [n for n in inner if n not in _MADE_DIRS and not n.endswith(".egg-info")]
        found += (
            Path(folder, name).relative_to(ROOT) for name in names if not name.endswith(_MADE_FILES)
        )
    return found
