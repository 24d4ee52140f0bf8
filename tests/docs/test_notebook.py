"""The notebooks run, and every output that they show is the one that comes.

Without Jupyter this cannot be looked at: `make docs` brings it, and .ci/run does that first.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from source_tree import ROOT, source_files

NOTEBOOKS = [path for path in source_files(".ipynb") if path.parts[0] == "docs"]
NO_JUPYTER = "Jupyter is not installed, so no notebook was run (make docs brings it)"


@pytest.fixture
def tool() -> Any:
    if importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel"):
        import run_notebooks

        return run_notebooks
    if os.environ.get("QCOW2CRYPT_REQUIRE_DOCS"):
        pytest.fail(NO_JUPYTER, pytrace=False)
    return pytest.skip(NO_JUPYTER)


def test_there_is_a_notebook() -> None:
    assert Path("docs/notebooks/sector-iv.ipynb") in NOTEBOOKS


# Jupyter's own libraries warn of what they will change one day.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_every_output_is_the_one_that_comes(path: Path, tool: Any) -> None:
    committed, came = tool.shown(tool.read(ROOT / path)), tool.shown(tool.run(ROOT / path))
    assert any(committed), f"{path} was committed without its outputs"
    for number, (said, now) in enumerate(zip(committed, came, strict=True), 1):
        assert now == said, (
            f"code cell {number} of {path}: look, then python tools/run_notebooks.py --write"
        )
