"""The record of mutants that change nothing that matters speaks of the code that is there."""

from __future__ import annotations

import json

from source_tree import ROOT

ROWS = json.loads((ROOT / "tools" / "known_mutants.json").read_text(encoding="utf-8"))


def test_each_known_mutant_is_one_of_the_code() -> None:
    assert ROWS
    for row in ROWS:
        text = (ROOT / "qcow2crypt" / f"{row['module']}.py").read_text(encoding="utf-8")
        words = " ".join(text.split())
        assert len(row["why"].split()) > 3
        assert row["mutants"]
        for before, after in row["mutants"]:
            assert before in words, f"{row['module']} has no such line any more"
            assert before != after
