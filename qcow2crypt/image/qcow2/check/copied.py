"""The COPIED flags of the active tables, held against refcounts.

The flag must be set exactly where the refcount is 1: then a writer need not copy.  It has no
meaning in the tables of snapshots.  Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.named import NamedTables
from qcow2crypt.image.qcow2.check.order import InOrder
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    EXTENDED_ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, Header
from qcow2crypt.image.qcow2.runs import entry_runs, equal_runs
from qcow2crypt.image.qcow2.tables import read_parts, read_table
from qcow2crypt.units import div_up


class Refcounts(Protocol):
    """The refcounts of clusters, one or many; None where one cannot be told."""

    def __getitem__(self, cluster: int) -> int | None: ...

    def slice(self, first: int, count: int) -> Sequence[int | None]:
        """Those of ``count`` clusters from ``first`` on."""


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Refcounts of one kind, and where those are 0 of another."""

    first: Refcounts
    second: Refcounts

    def __getitem__(self, cluster: int) -> int | None:
        return self.first[cluster] or self.second[cluster]

    def slice(self, first: int, count: int) -> Sequence[int | None]:
        """Those of ``count`` clusters from ``first`` on."""
        found = self.first.slice(first, count)
        if 0 not in found:
            return found
        return [one or self.second[cluster] for cluster, one in enumerate(found, first)]


@dataclass(frozen=True, slots=True)
class CopiedFlaw:
    """An entry whose flag is wrong: where it stands, what it is, and how it must be.

    ``text`` says it for people; ``times`` how often the table with it is named.  ``entries`` that
    are the same and stand side by side are one flaw.
    """

    offset: int
    entry: int
    text: str
    times: int
    entries: int = 1

    @property
    def right(self) -> int:
        """The entry with the right flag."""
        return self.entry ^ FLAG_COPIED

    @property
    def clears(self) -> bool:
        """True if the flag is set and must not be: the dangerous way round."""
        return bool(self.entry & FLAG_COPIED)

    def single(self) -> Iterator[CopiedFlaw]:
        """One flaw for each entry."""
        for number in range(self.entries):
            yield replace(self, offset=self.offset + number * ENTRY_SIZE, entries=1)

    def write(self, file: HostFile) -> None:
        """Put a single one right."""
        file.pwrite(struct.pack(">Q", self.right), self.offset)


def copied_flaws(file: HostFile, header: Header, refcounts: Refcounts) -> Iterator[CopiedFlaw]:
    """Every wrong flag.  Each entry may be changed when its flaw is told."""
    tables = _no_tables(file, header)
    yield from _l1_flaws(file, header, refcounts, tables)
    for offset in tables:
        yield from _l2_flaws(header, refcounts, offset, _read(file, header, offset), tables[offset])


def report_flaws(
    file: HostFile, header: Header, refcounts: Refcounts, findings: Findings, in_order: InOrder
) -> None:
    """Make a finding of every wrong flag."""
    tables = _no_tables(file, header)

    def report(flaws: Iterator[CopiedFlaw]) -> None:
        for flaw in flaws:
            findings.corruption(flaw.text, flaw.times * flaw.entries)

    report(_l1_flaws(file, header, refcounts, tables))
    in_order(
        tables,
        lambda offset: _read(file, header, offset),
        lambda offset, entries: report(
            _l2_flaws(header, refcounts, offset, entries, tables[offset])
        ),
        header.cluster_size,
    )


def _no_tables(file: HostFile, header: Header) -> NamedTables:
    return NamedTables(div_up(file.size, header.cluster_size), header.cluster_bits)


def _read(file: HostFile, header: Header, offset: int) -> array[int]:
    return read_table(file, offset, header.cluster_size // ENTRY_SIZE)


def _l1_flaws(
    file: HostFile, header: Header, refcounts: Refcounts, tables: NamedTables
) -> Iterator[CopiedFlaw]:
    """Every wrong flag of the L1 table.  The L2 tables that it names go to ``tables``."""
    for start, part in read_parts(file, header.l1_table_offset, header.l1_size):
        for index, entry, entries in equal_runs(part):
            offset = entry & OFFSET_MASK
            if not offset:
                continue
            count = refcounts[offset >> header.cluster_bits]
            if count is None:
                continue
            if (count == 1) != bool(entry & FLAG_COPIED):
                first, last = start + index, start + index + entries - 1
                where = f"{first} to {last}" if last > first else f"{first}"
                text = f"OFLAG_COPIED L2 cluster: l1_index={where} l1_entry={entry:x}"
                place = header.l1_table_offset + first * ENTRY_SIZE
                yield CopiedFlaw(place, entry, f"{text} refcount={count}", 1, entries)
            if offset < file.size:
                tables.add(offset, entries)


def _l2_flaws(
    header: Header, refcounts: Refcounts, offset: int, entries: array[int], times: int
) -> Iterator[CopiedFlaw]:
    size = ENTRY_SIZE
    if header.extended_l2:
        entries, size = entries[::2], EXTENDED_ENTRY_SIZE
    external = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
    for index, first, length in entry_runs(entries, header.cluster_size):
        host, copied = first & OFFSET_MASK, bool(first & FLAG_COPIED)
        if first & FLAG_COMPRESSED or not (host or (external and copied)):
            continue
        if external:
            counts: Sequence[int | None] = () if copied else [1] * length
        else:
            counts = _wrong_counts(refcounts, host >> header.cluster_bits, length, copied=copied)
        for number, count in enumerate(counts):
            if count is not None and (count == 1) != copied:
                entry = first + number * header.cluster_size
                text = f"OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={count}"
                yield CopiedFlaw(offset + (index + number) * size, entry, text, times)


def _wrong_counts(
    refcounts: Refcounts, first: int, length: int, *, copied: bool
) -> Sequence[int | None]:
    """The refcounts of a run of clusters; none at all where the flag is right for all of them."""
    if length == 1:
        count = refcounts[first]
        return () if (count == 1) == copied else (count,)
    counts = refcounts.slice(first, length)
    ones = counts.count(1)
    return () if ones == (length if copied else 0) else counts
