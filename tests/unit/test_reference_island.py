"""The textbook stands alone: standard library only, short, and readable in the order it tells."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qcow2crypt.reference

FOLDER = Path(qcow2crypt.reference.__file__).parent
READING_ORDER = ["tables", "aes", "modes", "ivgen", "sectors"]
LINES = 700  # all of it: an evening's reading


def test_the_files_are_those_of_the_reading_order() -> None:
    names = {module.name for module in pkgutil.iter_modules([str(FOLDER)])}
    assert names == set(READING_ORDER)
    text = qcow2crypt.reference.__doc__ or ""
    places = [text.index(f"{number}  {name}.py") for number, name in enumerate(READING_ORDER, 1)]
    assert places == sorted(places)


@pytest.mark.parametrize("name", READING_ORDER)
def test_each_file_says_which_one_it_is(name: str) -> None:
    module = importlib.import_module(f"qcow2crypt.reference.{name}")
    assert (module.__doc__ or "").startswith(f"{READING_ORDER.index(name) + 1} of 5.  ")


@pytest.mark.parametrize("name", READING_ORDER)
def test_each_file_builds_only_on_those_before(name: str) -> None:
    before = READING_ORDER[: READING_ORDER.index(name)]
    for imported, level in _imports(FOLDER / f"{name}.py"):
        if level:
            assert (level, imported in before) == (1, True), f"{name} imports {imported}"
        else:
            assert imported.partition(".")[0] in sys.stdlib_module_names, imported


def test_the_whole_is_short() -> None:
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in FOLDER.glob("*.py"))
    assert lines < LINES


def test_the_warning_comes_first() -> None:
    text = qcow2crypt.reference.__doc__ or ""
    assert text.index("WARNING") < text.index("tables.py")
    assert "broken by design" in text


def test_all_public_names_are_there() -> None:
    for name in qcow2crypt.reference.__all__:
        assert hasattr(qcow2crypt.reference, name)


def test_it_works_when_copied_out_and_renamed(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "textbook", ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from textbook import encrypt_sectors, passphrase_to_key\n"
        "print(encrypt_sectors(bytes(512), 0, passphrase_to_key('hunter2'))[:4].hex())\n"
        "print('qcow2crypt' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["34d652ea", "False"]


def _imports(path: Path) -> list[tuple[str, int]]:
    """What a file imports: names, and how many dots stand before them."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
    return found
