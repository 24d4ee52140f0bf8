"""``import qcow2crypt`` stays light: nothing heavy is loaded before someone asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import qcow2crypt

HEAVY = {
    "_cffi_backend",
    "argparse",
    "backports.zstd",
    "cffi",
    "compression.zstd",
    "concurrent.futures",
    "Crypto",
    "ctypes",
    "hypothesis",
    "json",
    "multiprocessing",
    "qcow2crypt._native",
    "rich",
}


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    # -S leaves out site-packages and its start-up hooks, so what is loaded was asked for by us;
    # it also shows that a bare `import qcow2crypt` needs no library at all.
    home = Path(qcow2crypt.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import qcow2crypt, sys; print(*sys.modules)"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(home)},
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "qcow2crypt" in loaded
    assert not loaded & HEAVY
