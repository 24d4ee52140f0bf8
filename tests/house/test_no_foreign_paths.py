"""No file names a path of the machine it was written on: a clone has no such folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from source_tree import ROOT, source_files

# In pieces, so that this file does not name what it forbids.
_FOREIGN = ["/" + "work", "/" + "root", "/" + "home" + r"/\w+", r"\.\./" + "shared"]
PATTERN = re.compile("|".join(rf"(?<![\w.~]){name}(?![\w-])" for name in _FOREIGN))


@pytest.mark.parametrize("path", source_files(), ids=str)
def test_file_names_no_foreign_path(path: Path) -> None:
    text = (ROOT / path).read_bytes().decode("utf-8", errors="replace")
    found = [
        f"{path}:{number} {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in PATTERN.finditer(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["see " + "/" + "work/x.py", "'../" + "shared/facts.md'"])
def test_the_pattern_finds_them(line: str) -> None:
    assert PATTERN.search(line)


@pytest.mark.parametrize("line", ["a network/worker", "./framework/x", "tests/root", "/workers"])
def test_the_pattern_leaves_words_alone(line: str) -> None:
    assert not PATTERN.search(line)
