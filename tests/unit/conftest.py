"""Files that several of these tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.files import CONTENT
from support.targets import OLD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with some bytes."""
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file to replace."""
    path = tmp_path / "target"
    path.write_bytes(OLD)
    return path
