"""The demonstrations, run once for all tests of a process, without QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow2crypt.lab import DEMONSTRATIONS
from qcow2crypt.lab.session import Shown, show

NAMES = tuple(DEMONSTRATIONS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where their files are."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def shown(folder: Path) -> dict[str, Shown]:
    """What each of them gave, by its name."""
    return dict(zip(NAMES, show(NAMES, keep=folder), strict=True))
