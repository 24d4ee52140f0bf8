"""The examples of docs/testing.md run, each a file of its own, as a reader would copy it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

import qcow2crypt
from qcow2crypt.testing.witness import QemuImg

TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PLUGIN = next(text for text in EXAMPLES if text.startswith("pytest_plugins"))
TESTS = [text for text in EXAMPLES if text is not PLUGIN]


@pytest.mark.parametrize("example", TESTS, ids=range(1, len(TESTS) + 1))
def test_example_runs(example: str, tmp_path: Path, qemu_img: QemuImg) -> None:
    (tmp_path / "conftest.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    home = Path(qcow2crypt.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={tmp_path}", "."],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "CI": "true",  # hypothesis then has no deadline, which a busy machine would miss
            "PYTHONPATH": str(home),
            "QCOW2CRYPT_CORPUS": str(ROOT / "corpus"),
            "LC_ALL": "C.UTF-8",
        },
    )
    assert done.returncode == 0, f"QEMU {qemu_img.version}\n{done.stdout}{done.stderr}"
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
