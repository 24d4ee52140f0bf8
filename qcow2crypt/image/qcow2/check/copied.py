"""The COPIED flags of the active tables, held against refcounts.

The flag must be set exactly where the refcount is 1: then a writer need not copy.  It has no
meaning in the tables of snapshots.  Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.census_tables import read_entries
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.references import unaligned_limit
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    EXTENDED_ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, Header
from qcow2crypt.units import div_up


@dataclass(frozen=True, slots=True)
class CopiedFlaw:
    """An entry whose flag is wrong: where it stands, what it is, and how it must be.

    ``text`` says it for people; ``times`` how often the table with it is named.
    """

    offset: int
    entry: int
    text: str
    times: int

    @property
    def right(self) -> int:
        """The entry with the right flag."""
        return self.entry ^ FLAG_COPIED

    @property
    def clears(self) -> bool:
        """True if the flag is set and must not be: the dangerous way round."""
        return bool(self.entry & FLAG_COPIED)

    def write(self, file: HostFile) -> None:
        """Put it right."""
        file.pwrite(struct.pack(">Q", self.right), self.offset)


def copied_flaws(
    file: HostFile, header: Header, refcount: Callable[[int], int | None]
) -> Iterator[CopiedFlaw]:
    """Every wrong flag.  ``refcount`` gives that of a cluster, None where it cannot be told."""
    bits = header.cluster_bits
    tables: dict[int, int] = {}
    unaligned = unaligned_limit(div_up(file.size, header.cluster_size))
    for index, entry in read_entries(file, header.l1_table_offset, header.l1_size):
        offset = entry & OFFSET_MASK
        if not offset:
            continue
        count = refcount(offset >> bits)
        if count is None:
            continue
        if (count == 1) != bool(entry & FLAG_COPIED):
            text = f"OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={entry:x} refcount={count}"
            yield CopiedFlaw(header.l1_table_offset + index * ENTRY_SIZE, entry, text, 1)
        if offset >= file.size:
            continue
        if offset % header.cluster_size and offset not in tables:
            unaligned -= 1
            if unaligned < 0:
                continue
        tables[offset] = tables.get(offset, 0) + 1
    for offset in sorted(tables):
        yield from _l2_flaws(file, header, refcount, offset, tables[offset])


def _l2_flaws(
    file: HostFile,
    header: Header,
    refcount: Callable[[int], int | None],
    offset: int,
    times: int,
) -> Iterator[CopiedFlaw]:
    entries = array("Q", file.pread(header.cluster_size, offset))
    if not any(entries):
        return
    if sys.byteorder == "little":
        entries.byteswap()
    stride = 2 if header.extended_l2 else 1
    size = EXTENDED_ENTRY_SIZE if header.extended_l2 else ENTRY_SIZE
    bits = header.cluster_bits
    external = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
    for index, entry in enumerate(entries[::stride]):
        host = entry & OFFSET_MASK
        if entry & FLAG_COMPRESSED or not (host or (external and entry & FLAG_COPIED)):
            continue
        count = 1 if external else refcount(host >> bits)
        if count is not None and (count == 1) != bool(entry & FLAG_COPIED):
            text = f"OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={count}"
            yield CopiedFlaw(offset + index * size, entry, text, times)


def report_flaws(flaws: Iterator[CopiedFlaw], findings: Findings) -> None:
    """Make a finding of each."""
    for flaw in flaws:
        findings.corruption(flaw.text, flaw.times)
