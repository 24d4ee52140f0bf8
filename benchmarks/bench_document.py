"""Put one run of ``qcow2crypt bench`` into docs/bench.md.

    qcow2crypt bench --json benchmarks/results/bench-linux-x86_64.json
    python -m benchmarks.bench_document

What stands between the two marks is replaced; tests/house holds it against the result.
"""

from __future__ import annotations

import json
from pathlib import Path

from qcow2crypt.cli.output_bench import bench_lines

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "bench-linux-x86_64.json"
DOCUMENT = ROOT / "docs" / "bench.md"
BEGIN, END = "<!-- run -->", "<!-- end of run -->"
WIDTH = 110


def text(result: str) -> str:
    """What stands between the marks."""
    lines = "\n".join(bench_lines(json.loads(result), WIDTH))
    return f"\n\n```text\n{lines}\n```\n\n"


def main() -> None:
    """Replace what stands between the marks."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    found = text(RESULT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(f"{before}{BEGIN}{found}{END}{after}", encoding="utf-8")
    print(DOCUMENT)


if __name__ == "__main__":
    main()
