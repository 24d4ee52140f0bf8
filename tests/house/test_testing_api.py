"""The public names of qcow2crypt.testing change only on purpose: they stand in testing_api.txt."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

MODULES = (
    *("case", "corpus", "damage", "fixtures", "generate", "images", "machine", "ours", "outcomes"),
    *("places", "rules", "runs", "script", "strategies", "tools", "witness"),
)
SNAPSHOT = Path(__file__).with_name("testing_api.txt")


def names() -> list[str]:
    """``module.name`` of every class and function that these modules define and do not hide."""
    found = []
    for module_name in MODULES:
        module = importlib.import_module(f"qcow2crypt.testing.{module_name}")
        for name, value in vars(module).items():
            home = getattr(value, "__module__", "")
            ours = home.startswith(module.__name__) and (
                inspect.isclass(value) or inspect.isfunction(value)
            )
            if ours and not name.startswith("_"):
                found.append(f"{module_name}.{name}")
    return sorted(found)


def test_public_names_are_those_written_down() -> None:
    written = SNAPSHOT.read_text(encoding="utf-8").split()
    assert names() == written, "if that is meant, say so in CHANGELOG.md and change the list"
