"""What the tests of the C part share: needed programs, and a folder for what is compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.native_c import Variant, driver, vector_lines
from support.tools import find_tool


@pytest.fixture(scope="session")
def tool(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the path of a program; without it the test is skipped, or fails if required."""
    return lambda name: find_tool(request.config, name)


@pytest.fixture(scope="session")
def c_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled programs, the same for all processes of one test run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "compiled"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def c_driver(tool: Callable[[str], str], c_folder: Path) -> Callable[[Variant], Path]:
    """Gives the C test driver, compiled one way."""

    def make(variant: Variant) -> Path:
        tool(variant.compiler[0])
        return driver(c_folder, variant)

    return make


@pytest.fixture(scope="session")
def c_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors as a file that the C test driver reads."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    path.write_text("\n".join(vector_lines()) + "\n", "utf-8")
    return path
