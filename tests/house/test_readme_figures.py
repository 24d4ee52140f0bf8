"""The figures of the README are those of the committed benchmark result, and no others."""

from __future__ import annotations

import json
import re
import runpy

from source_tree import ROOT

RESULT = ROOT / "benchmarks" / "results" / "engines-linux-x86_64-cpython3.11.json"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([\d.]+) / ([\d.]+) \| ([\d.]+) / ([\d.]+) \|", re.MULTILINE)


def rounded(speed: float) -> str:
    """As the README prints it: whole numbers from 10 on."""
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


def test_the_engine_table_is_the_committed_result() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    medians = {
        (row["contender"], row["direction"], row["sectors"]): row["median_mb_s"]
        for row in result["results"]
    }
    rows = ROW.findall(README)
    assert [row[0] for row in rows] == ["pycryptodome", "pure", "reference"]
    for name, *found in rows:
        wanted = [
            rounded(medians[f"engine {name}", direction, sectors])
            for sectors in (128, 2048)
            for direction in ("encrypt", "decrypt")
        ]
        assert found == wanted, f"{name}: the README says {found}, the result {wanted}"
    assert result["cpu"] in README
    assert f"{medians['pyaes, per sector', 'encrypt', 128]:.1f} MB/s" in README


def test_the_conversion_figures_are_the_committed_results() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "convert_document.py"))
    results = ROOT / "benchmarks" / "results"
    main, more = (json.loads((results / script[name]).read_text()) for name in ("MAIN", "MORE"))
    document = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
    for words, figures in (
        (README, script["readme_text"](main)),
        (document, script["text"](main, more)),
    ):
        between = words.partition(script["BEGIN"])[2].partition(script["END"])[0]
        assert between.strip() == figures, "run python -m benchmarks.convert_document"
