"""A report as data for programs: dictionaries, lists, texts and numbers, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcow2crypt.probe import perf
from qcow2crypt.probe.cpu import Cpu
from qcow2crypt.probe.doctor import Finding, Report
from qcow2crypt.probe.evidence import Evidence, SiteCount, TableCount
from qcow2crypt.probe.record import Offset
from qcow2crypt.probe.support import why_no_proof
from qcow2crypt.probe.symbols import function_name, place_name


def as_dict(cpu: Cpu, reports: Sequence[Report]) -> dict[str, Any]:
    """All of one examination."""
    return {
        "processor": {
            "model": cpu.model,
            "machine": cpu.machine,
            "features": [each._asdict() for each in cpu.features],
            "disagree": [each.name for each in cpu.disagreements],
            "not-asked": cpu.why,
        },
        "method": method(),
        "programs": [_report(each) for each in reports],
    }


def method() -> str:
    """How things are counted here."""
    if reason := why_no_proof():
        return f"none: {reason}"
    if reason := perf.why_not():
        return f"ptrace with debug registers; {reason}"
    return "ptrace with counters of perf"


def _report(report: Report) -> dict[str, Any]:
    return {
        "subject": report.subject,
        "version": report.version,
        "problem": report.problem,
        "findings": [_finding(each) for each in report.findings],
        "not-examined": [{"encryption": name, "why": why} for name, why in report.refused],
        "libraries": [
            {
                "path": each.path,
                "needed": each.needed,
                "instructions": each.sites,
                "executed": each.executed,
                "blocks-per-block": round(each.per_block, 6),
                "table-reads-per-block": round(each.tables, 6),
            }
            for each in report.libraries
        ],
        "imports": list(report.imports),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    verdict, evidence = finding.verdict, finding.evidence
    return {
        "encryption": finding.encryption or None,
        "direction": finding.direction or None,
        "verdict": verdict.kind,
        "why": verdict.why,
        "meaning": finding.meaning,
        "where": evidence.where or None,
        "blocks-per-block": round(verdict.per_block, 6),
        "table-reads-per-block": round(verdict.table_reads, 6),
        "vector": verdict.vector,
        "by": [decider(each) for each in verdict.by],
        "evidence": _evidence(evidence),
    }


def decider(counted: SiteCount | TableCount) -> dict[str, str]:
    """The library and the function of a count; of a table, the function that reads it."""
    path, offset = counted.place.path, counted.place.offset
    if isinstance(counted, TableCount):
        path, offset = busiest_user(counted) or (path, -1)
    return {"file": path, "function": function_name(path, offset) if offset >= 0 else ""}


def busiest_user(counted: TableCount) -> Offset | None:
    """An instruction in the function that touches the table most; None where nobody knows."""
    totals: dict[tuple[str, str], int] = {}
    first: dict[tuple[str, str], Offset] = {}
    for (path, offset), count in counted.users:
        key = path, function_name(path, offset)
        totals[key] = totals.get(key, 0) + count
        first.setdefault(key, (path, offset))
    return first[max(totals, key=totals.__getitem__)] if totals else None


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "payload": list(evidence.payload),
        "instructions-executed": len(evidence.hits),
        "sites": [
            {
                "file": each.place.path,
                "offset": each.place.offset,
                "instruction": each.site.mnemonic,
                "width": each.site.width,
                "bytes": _bytes(evidence, each),
                "counts": [each.small, each.large],
                "per-block": round(evidence.per_block(each), 6),
                "stack": _stack(evidence, each),
            }
            for each in evidence.sites
        ],
        "tables": [
            {
                "file": each.place.path,
                "offset": each.place.offset,
                "table": each.table.name,
                "counts": [each.small, each.large],
                "per-block": round(evidence.per_block(each), 6),
                "users": [
                    {"place": place_name(*user), "count": count} for user, count in each.users
                ],
            }
            for each in evidence.tables
        ],
        "kernel": {
            "sockets": evidence.kernel.tried,
            "ciphers": list(evidence.kernel.ciphers),
            "bytes": [evidence.kernel.small, evidence.kernel.large],
        },
        "uncounted": [
            {"file": place.path, "offset": place.offset} for place in sorted(evidence.uncounted)
        ],
        "programs": [each.path for each in evidence.programs],
        "limits": list(evidence.limits),
    }


def _bytes(evidence: Evidence, counted: SiteCount) -> str:
    """The bytes at the instruction pointer when it ran; of one that did not, those in the file."""
    hit = evidence.hits.get(counted.place)
    return (hit.found if hit else counted.site.data).hex()


def _stack(evidence: Evidence, counted: SiteCount) -> list[str]:
    hit = evidence.hits.get(counted.place)
    return [place_name(*each) for each in hit.stack] if hit else []
