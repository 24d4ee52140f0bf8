"""Files stay small enough to be read in one sitting."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_tree import ROOT, source_files

LIMIT = 400
ROOMS = {"qcow2crypt", "csrc", "tests", "tools", "benchmarks"}
FILES = [
    path
    for path in source_files(".py", ".pyi", ".c", ".h", ".js", ".css")
    if path.parts[0] in ROOMS
]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_is_not_too_long(path: Path) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= LIMIT, f"{path} has {lines} lines, over {LIMIT}: split it by question answered"
