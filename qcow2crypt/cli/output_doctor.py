"""The answer of ``doctor`` for people: a table, sentences, and the proof if it is asked for.

Knows the dictionary that ``qcow2crypt.probe.report.as_dict`` makes, so that whatever is shown here
is in the JSON, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from qcow2crypt.cli.terminal import printable

_STACK = 6
_USERS = 4
Row = Mapping[str, Any]


def doctor_lines(answer: Row, *, proof: bool) -> Iterator[str]:
    """All lines; ``proof`` adds what the verdicts rest on."""
    yield from _processor(answer["processor"])
    yield f"method: {printable(answer['method'])}"
    for program in answer["programs"]:
        yield ""
        yield from _program(program, proof=proof)


def _processor(processor: Row) -> Iterator[str]:
    known = [row for row in processor["features"] if True in {row["by_cpuid"], row["by_kernel"]}]
    names = " ".join(row["name"] for row in known) or "no AES features that could be found"
    yield f"processor: {printable(processor['model'] or processor['machine'])}: {names}"
    for row in processor["features"]:
        if row["name"] in processor["disagree"]:
            said = {True: "yes", False: "no"}
            yield (
                f"    {row['name']}: CPUID says {said[row['by_cpuid']]}, /proc/cpuinfo says "
                f"{said[row['by_kernel']]}; programs mostly ask CPUID"
            )
    if processor["not-asked"]:
        yield f"    {printable(processor['not-asked'])}"


def _program(program: Row, *, proof: bool) -> Iterator[str]:
    version = f" ({printable(program['version'])})" if program["version"] else ""
    yield f"{printable(program['subject'])}{version}"
    if program["problem"]:
        yield f"    not examined: {printable(program['problem'])}"
    rows = [_row(finding) for finding in program["findings"]]
    yield from _table(("what", "verdict", "per block", "by"), rows)
    for text in dict.fromkeys(_sentence(finding) for finding in program["findings"]):
        yield f"    {text}"
    for row in program["not-examined"]:
        yield f"    {row['encryption']}: not examined: {printable(row['why'])}"
    limits = (limit for each in program["findings"] for limit in each["evidence"]["limits"])
    for limit in dict.fromkeys(limits):
        yield f"    note: {printable(limit)}"
    if program["libraries"]:
        yield "    libraries with AES in them, or for cryptography:"
        yield from _table(
            ("file", "needed", "AES instructions", "run", "per block", "table reads"),
            [
                (
                    PurePath(row["path"]).name,
                    "yes" if row["needed"] else "no",
                    str(row["instructions"]),
                    str(row["executed"]),
                    f"{row['blocks-per-block']:.4f}",
                    f"{row['table-reads-per-block']:.4f}",
                )
                for row in program["libraries"]
            ],
        )
    if proof:
        for finding in program["findings"]:
            yield from _proof(finding)
        if program["imports"]:
            yield f"    cipher functions that it imports: {', '.join(program['imports'])}"


def _what(finding: Row) -> str:
    return " ".join(filter(None, (finding["encryption"], finding["direction"]))) or "command"


def _row(finding: Row) -> tuple[str, ...]:
    single = not finding["evidence"]["payload"][1]
    if finding["verdict"] == "software":
        figure = f"{finding['table-reads-per-block']:.4f} reads"
    else:
        figure = "-" if single else f"{finding['blocks-per-block']:.4f}"
    names = [f"{PurePath(row['file']).name} {row['function']}".strip() for row in finding["by"]]
    by = ", ".join(list(dict.fromkeys(names))[:2])
    sites = finding["evidence"]["sites"]
    widths = {site["width"] for site in sites if site["per-block"] > 0 or single}
    wide = f" ({'/'.join(map(str, sorted(widths)))} bytes)" if widths else ""
    where = f" [{finding['where']}]" if finding["where"] else ""
    kind = "software, SSSE3" if finding["vector"] else finding["verdict"]
    return _what(finding), kind + where, figure, by + wide


def _sentence(finding: Row) -> str:
    if finding["verdict"] in {"unknown", "mixed"}:
        return f"{_what(finding)}: {printable(finding['why'])}. {printable(finding['meaning'])}"
    return str(printable(finding["meaning"]))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    rows = [tuple(map(printable, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"    {'  '.join(cells)}".rstrip()


def _proof(finding: Row) -> Iterator[str]:
    evidence = finding["evidence"]
    small, large = evidence["payload"]
    yield f"    proof for {_what(finding)}: {printable(finding['why'])}"
    if small:
        yield f"        counted with {small} and with {large} bytes of payload"
    yield f"        {evidence['instructions-executed']} different AES instructions ran"
    for site in evidence["sites"]:
        where = f"{PurePath(site['file']).name} {site['offset']:#x}"
        counts = " -> ".join(map(str, dict.fromkeys(site["counts"])))
        yield (
            f"        {printable(where)}: {site['instruction']}, bytes {site['bytes']}, ran "
            f"{counts}, {site['per-block']:.4f} per block"
        )
        if site["per-block"] > 0 or not small:
            for caller in site["stack"][:_STACK]:
                yield f"            called from {printable(caller)}"
    for table in evidence["tables"]:
        where = f"{PurePath(table['file']).name} {table['offset']:#x}"
        counts = " -> ".join(map(str, table["counts"]))
        yield (
            f"        {printable(where)}: {table['table']}, 8 bytes of it touched {counts}, "
            f"{table['per-block']:.4f} per block"
        )
        for user in table["users"][:_USERS]:
            yield f"            {user['count']} times by {printable(user['place'])}"
    kernel = evidence["kernel"]
    if kernel["sockets"]:
        counts = " -> ".join(map(str, kernel["bytes"]))
        yield (
            f"        AF_ALG: {kernel['sockets']} sockets asked for, ciphers "
            f"{printable(', '.join(kernel['ciphers'])) or 'none'}, bytes {counts}"
        )
