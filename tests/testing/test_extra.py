"""Only who asks for strategies, machines or fixtures needs hypothesis and pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qcow2crypt

WITHOUT = (
    *("case", "corpus", "damage", "generate", "ours", "outcomes", "places", "rules", "runs"),
    *("script", "tools", "witness"),
)


@pytest.mark.parametrize("names", [("",), WITHOUT], ids=["the package", "most of testing"])
def test_it_is_imported_without(names: tuple[str, ...], tmp_path: Path) -> None:
    modules = [f"qcow2crypt.testing.{name}" if name else "qcow2crypt" for name in names]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(qcow2crypt.__file__).parent.parent)},
    )
    loaded = set(done.stdout.split())
    assert set(modules) <= loaded
    assert not loaded & {"hypothesis", "pytest"}
