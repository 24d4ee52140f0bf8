"""The examples run as they are, as somebody would who copied them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

import qcow2crypt


def test_libqcow_differs_where_it_is_known_to(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyqcow") is None:
        pytest.skip("libqcow was not held against the corpus: libqcow-python is not installed")
    home = Path(qcow2crypt.__file__).parent.parent
    words = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "tmp")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(ROOT / "examples" / "test_libqcow.py")],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(home)},
    )
    assert done.returncode == 0, done.stdout
