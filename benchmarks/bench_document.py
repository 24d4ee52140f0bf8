"""Put one run of ``qcow2crypt bench`` into docs/bench.md, and its answer where it is asked.

    qcow2crypt bench --json benchmarks/results/bench-linux-x86_64.json
    python -m benchmarks.bench_document

What stands between the two marks of a document is replaced; tests/house holds it against the
result.
"""

from __future__ import annotations

import json
from pathlib import Path

from qcow2crypt.cli.output_bench import bench_lines

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "bench-linux-x86_64.json"
DOCUMENTS = {"bench.md": "run", "does-qemu-use-aes-ni.md": "answer"}
WIDTH = 110


def text(part: str, result: str) -> str:
    """What stands between the marks: the whole run, or the answer and its reason."""
    run = json.loads(result)
    lines = list(bench_lines(run, WIDTH))
    if part == "answer":
        first, _, other = (each["about"] for each in run["answer"]["text"][:3])
        lines = lines[lines.index(first) : lines.index(other) - 1]
    return "\n\n```text\n" + "\n".join(lines) + "\n```\n\n"


def parts(document: str, part: str) -> tuple[str, str, str]:
    """What stands before the end of the first mark, between both, and from the second on."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    before, _, rest = document.partition(begin)
    between, _, after = rest.partition(end)
    return before + begin, between, end + after


def main() -> None:
    """Replace what stands between the marks."""
    for name, part in DOCUMENTS.items():
        path = ROOT / "docs" / name
        before, _, after = parts(path.read_text(encoding="utf-8"), part)
        found = text(part, RESULT.read_text(encoding="utf-8"))
        path.write_text(before + found + after, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
