"""What ``difftest`` found, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qcow2crypt.cli.terminal import printable

_TOLD = (
    ("disks read", "disks read"),
    ("snapshots read", "snapshots read"),
    ("disks written", "disks written and read by QEMU"),
    ("snapshots written", "snapshots of these"),
    ("checks", "of these checked by qemu-img check"),
    ("points in time", "points in time at which the power might have failed"),
    ("files with the same bytes", "files with the same bytes"),
    ("not asked", "not asked: the subject has no way to be told"),
    ("not written", "not written: the writer names what it does not support"),
    ("not made", "not made: QEMU refused the commands"),
)


def difftest_lines(found: dict[str, Any]) -> Iterator[str]:
    """A few lines: who, how much, and what differs."""
    folder = Path(found["folder"])
    subject, oracle = found["subject"], found["oracle"]
    counts = found["counts"]
    yield f"subject  {printable(subject['version'])}"
    yield f"oracle   {printable(oracle['version'])}"
    yield (
        f"{_cases(counts.get('cases', 0))} in {found['seconds']:.0f} s, "
        f"profile {found['profile']}, seed {found['seed']}"
    )
    for key, words in _TOLD:
        if counts.get(key):
            yield f"  {counts[key]:>8}  {words}"
    for key, example in found["examples"].items():
        yield f"  {counts[key]:>8}  {key}"
        yield f"            {printable(example)}"
    for row in found["not_made"]:
        said = row["message"].partition("\nended with ")[2].partition("\n")[0]
        yield f"            case {row['case']}: {printable(said)}"
    rows = found["differences"]
    if not rows:
        yield "no difference"
        return
    yield f"{len(rows)} kind{'s' * (len(rows) > 1)} of difference:"
    for row in rows:
        yield from _row(row, folder)


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _row(row: dict[str, Any], folder: Path) -> Iterator[str]:
    takes = ", ".join(row["features"] or ()) or "a plain image"
    count = _cases(row["cases"])
    yield f"  {row['kind']} ({row['part']}): {takes}; {count}, the first is {row['first_case']}"
    if row["message"]:
        yield f"    {printable(row['message'])}"
    yield f"    {printable(str(folder / row['report'] / 'report.md'))}"


def engines_lines(found: dict[str, Any]) -> Iterator[str]:
    """How many runs each cipher did, and what differs."""
    yield f"{found['runs']} runs in {found['seconds']:.0f} s, seed {found['seed']}"
    for row in found["ciphers"]:
        yield f"  {row['name']:<24}{row['runs']:>10} runs {row['sectors']:>12} sectors"
    for text in found["missing"]:
        yield f"  not here: {printable(text)}"
    if not found["wrong"]:
        yield "no difference"
        return
    yield f"{found['wrong']} differences; the first of them:"
    for row in found["differences"]:
        yield f"  {' and '.join(row['ciphers'])}, {row['direction']}:"
        for key, value in row.items():
            if key not in ("ciphers", "direction"):
                yield f"    {key:<16}{value}"
