"""The run in docs/bench.md is the committed result, and nothing was made prettier by hand."""

from __future__ import annotations

import json
import runpy

import jsonschema
import pytest
from cli.schemas import schema
from source_tree import ROOT

SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "bench_document.py"))
RESULT = SCRIPT["RESULT"].read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "part"), SCRIPT["DOCUMENTS"].items())
def test_the_run_is_the_committed_result(name: str, part: str) -> None:
    document = (ROOT / "docs" / name).read_text(encoding="utf-8")
    _, between, _ = SCRIPT["parts"](document, part)
    assert between == SCRIPT["text"](part, RESULT), "run python -m benchmarks.bench_document"


def test_the_result_keeps_to_its_schema() -> None:
    jsonschema.validate(json.loads(RESULT), schema("bench"))
