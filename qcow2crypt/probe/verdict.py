"""From evidence to a verdict.  Pure: the same evidence gives the same verdict, anywhere.

A verdict never says more than was seen.  That an instruction did not run proves no software, and
that it ran does not prove it was for the payload: only what grows with the payload counts.
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.probe.evidence import Evidence, SiteCount, TableCount
from qcow2crypt.units import BLOCK_SIZE

HARDWARE, SOFTWARE, KERNEL = "hardware", "software", "kernel"
MIXED, UNKNOWN = "mixed", "unknown"
VERDICTS = (HARDWARE, SOFTWARE, KERNEL, MIXED, UNKNOWN)

_ALL = 0.95
"""Blocks by instructions for each block of payload, from which on nothing is left for others."""
_NOISE = 0.005
"""Less than this for each block is for something else."""
_TABLE = 0.05
"""Touches for each block that table AES has at least: 36 reads of a T-table of 256 entries, of
which two are watched, make 0.28; 16 reads of a last-round table make 0.125; of an S-box, 0.5."""
_VECTOR = 4
"""Vector-permute AES loads its constants once for each call, however long the run: so many more
loads in all, for the larger payload."""


class Verdict(NamedTuple):
    """What does the AES.

    ``kind``        one of ``VERDICTS``
    ``per_block``   blocks finished by AES instructions for each block of payload
    ``table_reads`` touches of the busiest table for each block of payload
    ``vector``      True for software that uses SSSE3
    ``by``          the counts that decided, the largest growth first; of a single run, all of them
    ``why``         in plain words, what it is that was seen
    """

    kind: str
    per_block: float = 0.0
    table_reads: float = 0.0
    vector: bool = False
    by: tuple[SiteCount | TableCount, ...] = ()
    why: str = ""


def decide(evidence: Evidence) -> Verdict:
    """What does the AES, by what was seen."""
    if evidence.failure:
        return Verdict(UNKNOWN, why=evidence.failure)
    if evidence.more_blocks <= 0:
        ran = sorted(evidence.sites, key=lambda each: -each.small * each.site.width)
        return Verdict(UNKNOWN, by=tuple(ran), why=_one_run(evidence))
    # Wide instructions in long straight code: each runs seldom, and together they do it all.
    sites = _growing(evidence, evidence.sites, 1 / evidence.more_blocks)
    tables = _growing(evidence, [t for t in evidence.tables if not t.table.vector], _TABLE)
    vectors = _growing(
        evidence,
        [t for t in evidence.tables if t.table.vector],
        _VECTOR / evidence.more_blocks,
    )
    by_kernel = (evidence.kernel.large - evidence.kernel.small) / BLOCK_SIZE / evidence.more_blocks
    per_block = evidence.blocks_by_instructions()
    reads = max((evidence.per_block(each) for each in (*tables, *vectors)), default=0.0)
    seen = [
        *([HARDWARE] if per_block > _NOISE else []),
        *([SOFTWARE] if tables or vectors else []),
        *([KERNEL] if by_kernel > _NOISE else []),
    ]
    kind, why = _judge(seen, per_block, by_kernel, evidence)
    by = (*sites, *tables, *vectors)
    return Verdict(kind, per_block, reads, bool(vectors) and not tables, by, why)


def _judge(
    seen: list[str], per_block: float, by_kernel: float, evidence: Evidence
) -> tuple[str, str]:
    if len(seen) > 1:
        return MIXED, f"the payload goes through {' and '.join(map(_WORDS.__getitem__, seen))}"
    by_instructions = f"{per_block:.4f} blocks by AES instructions for each block of payload"
    if seen == [HARDWARE] and per_block >= _ALL:
        return HARDWARE, by_instructions
    if seen == [HARDWARE]:
        return UNKNOWN, f"{by_instructions}; what does the rest was not seen"
    if not evidence.uncounted:
        if seen == [SOFTWARE]:
            return SOFTWARE, "tables of software AES are read for the payload"
        if seen == [KERNEL] and by_kernel >= _ALL:
            return KERNEL, "the payload is handed to the kernel (AF_ALG)"
    return UNKNOWN, _nothing(seen, evidence)


def _nothing(seen: list[str], evidence: Evidence) -> str:
    if evidence.uncounted:
        return "AES instructions ran that could not be counted"
    if seen:
        return "a part of the payload is handed to the kernel; the rest was not seen"
    if evidence.hits:
        return (
            f"{len(evidence.hits)} AES instructions ran, none of them for the payload; "
            "nor was a known table of software AES read for it"
        )
    return "no AES instruction ran, and no known table of software AES was read"


_WORDS = {HARDWARE: "AES instructions", SOFTWARE: "software tables", KERNEL: "the kernel"}


def _one_run(evidence: Evidence) -> str:
    blocks = sum(each.small * each.site.width for each in evidence.sites) // BLOCK_SIZE
    if evidence.hits and not evidence.sites:
        return f"{len(evidence.hits)} different AES instructions ran; how often was not counted"
    if evidence.sites:
        more = " at least" if evidence.uncounted else ""
        return (
            f"AES instructions ran and finished {blocks} blocks{more}; from one run nobody can "
            "tell the payload from a self-test"
        )
    return "no AES instruction ran; what else was done was not looked for in a single run"


def _growing(
    evidence: Evidence,
    counted: tuple[SiteCount, ...] | tuple[TableCount, ...] | list[TableCount],
    least: float,
) -> tuple[SiteCount | TableCount, ...]:
    """Those that grow with the payload by ``least`` for each block, and more."""
    rows = [each for each in counted if evidence.per_block(each) >= least]
    return tuple(sorted(rows, key=evidence.per_block, reverse=True))
