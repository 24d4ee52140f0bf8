"""The walls of the house stand: every import is one that house/layers.py allows.

Walks the syntax trees, so imports inside functions and under TYPE_CHECKING count too: who names
a type knows the module.  A string that is exactly the name of one of our modules counts as an
import of it, since that is how a table of lazy imports looks.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from house.layers import LAYERS, LIBRARIES, Layer, layer_of, may_use
from source_tree import ROOT, source_files

PACKAGE = "qcow2crypt"
FILES = [path for path in source_files(".py") if path.parts[0] == PACKAGE]


def module_name(path: Path) -> str:
    """qcow2crypt/image/base.py is image.base; a package is named as its folder."""
    parts = path.with_suffix("").parts[1:]
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


# compression is standard from Python 3.14; _typeshed exists for type checkers only.
STANDARD = sys.stdlib_module_names | {"compression", "_typeshed"}
MODULES = {module_name(path) for path in FILES}
# What is compiled has no source of its name, but has a typed face.
COMPILED = {f"{PACKAGE}.{path.stem}" for path in source_files(".pyi") if path.parts[0] == PACKAGE}


def imports_of(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that ``path`` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = path.parts[: len(path.parts) - node.level]
                base = ".".join((*parent, base)).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = inner.removeprefix(f"{PACKAGE}.") in MODULES or inner in COMPILED
                is_ours = base.partition(".")[0] == PACKAGE
                yield node.lineno, inner if is_module or not is_ours else base
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
            if name in COMPILED or (
                name.startswith(f"{PACKAGE}.") and name.removeprefix(f"{PACKAGE}.") in MODULES
            ):
                yield node.lineno, name


def complaint(module: str, layer: Layer, imported: str) -> str | None:
    """Why ``module``, which is of ``layer``, may not import ``imported``; None where it may."""
    if imported in COMPILED:
        return None if may_use(module, imported) else f"imports {imported}, the compiled part"
    if imported == PACKAGE or imported.startswith(f"{PACKAGE}."):
        ours = imported.removeprefix(PACKAGE).removeprefix(".") or "__init__"
        target = layer_of(ours)
        if target is None or target is layer or target.name in layer.imports:
            return None
        return f"imports {imported}, of the layer '{target.name}'"
    if imported.partition(".")[0] in STANDARD or may_use(module, imported):
        return None
    return f"imports {imported}, a library that LIBRARIES does not grant it"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_keep_to_the_layers(path: Path) -> None:
    module = module_name(path)
    layer = layer_of(module)
    assert layer is not None, (
        f"{path} is in no layer: add '{module}' to a row of LAYERS in tests/house/layers.py"
    )
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [
        f"{path}:{line} {said}"
        for line, imported in imports_of(tree, path)
        if (said := complaint(module, layer, imported))
    ]
    allowed = ", ".join((layer.name, *layer.imports))
    assert not found, "\n".join([*found, f"its layer '{layer.name}' may import: {allowed}"])


def test_every_name_in_the_tables_is_a_module() -> None:
    named = {name for layer in LAYERS for name in layer.modules}
    named |= {name for users in LIBRARIES.values() for name in users}
    unknown = {name for name in named if name.removesuffix(".*") not in MODULES}
    assert not unknown, "tests/house/layers.py names what is no module"


def test_layers_have_no_circle() -> None:
    """The order of the rows is the order of the house: a layer imports only rows above it."""
    above: set[str] = set()
    for layer in LAYERS:
        assert set(layer.imports) <= above, f"'{layer.name}' imports a layer that stands below it"
        above.add(layer.name)


def test_the_table_for_people_has_the_same_rows() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| layer | modules | may import |\n| --- | --- | --- |\n")[2]
    rows = re.findall(r"^\| ([^|]+) \|", table.partition("\n\n")[0], re.MULTILINE)
    assert rows == [layer.name for layer in LAYERS], "mend the table in CONTRIBUTING.md"


@pytest.mark.parametrize(
    ("module", "imported", "allowed"),
    [
        ("units", "struct", True),
        ("reference.aes", "qcow2crypt.units", False),
        ("reference.aes", "qcow2crypt.reference.tables", True),
        ("engines.pure", "qcow2crypt.reference.aes", True),
        ("engines.pure", "qcow2crypt.image.base", False),
        ("engines.pure", "rich.table", False),
        ("engines.pure", "Crypto.Cipher", False),
        ("engines.pycryptodome", "Crypto.Cipher", True),
        ("image.qcow2.compressed", "backports.zstd", True),
        ("image.qcow2.compressed", "backports", False),
        ("engines.native", "qcow2crypt._native", True),
        ("engines.pure", "qcow2crypt._native", False),
        ("crypt.ivgen", "qcow2crypt._native", False),
        ("cli.progress", "rich.progress", True),
        ("reference.aes", "Crypto", False),
        ("image.qcow2.header", "qcow2crypt.crypt", False),
        ("image.qcow2.mapping", "qcow2crypt.secret", False),
        ("tasks.conversion", "qcow2crypt.cli", False),
        ("errors", "qcow2crypt", False),
    ],
)
def test_the_check_itself(module: str, imported: str, allowed: bool) -> None:
    layer = layer_of(module)
    assert layer is not None
    assert (complaint(module, layer, imported) is None) is allowed


def test_every_way_to_import_is_seen() -> None:
    source = (
        "import json, qcow2crypt.units\n"
        "from . import base\n"
        "from .qcow2 import header as h\n"
        "from ..errors import FormatError\n"
        "from qcow2crypt import _native\n"
        "def later():\n"
        "    from qcow2crypt.image import base\n"
        "TABLE = {'x': 'qcow2crypt.errors'}\n"
    )
    path = Path("qcow2crypt/image/example.py")
    assert sorted(imports_of(ast.parse(source), path)) == [
        (1, "json"),
        (1, "qcow2crypt.units"),
        (2, "qcow2crypt.image.base"),
        (3, "qcow2crypt.image.qcow2.header"),
        (4, "qcow2crypt.errors"),
        (5, "qcow2crypt._native"),
        (7, "qcow2crypt.image.base"),
        (8, "qcow2crypt.errors"),
    ]
