"""The part of a census that looks at L2 tables: clusters, compressed clusters, subclusters."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.references import COMPRESSED_CLUSTER, DATA_CLUSTER, References
from qcow2crypt.image.qcow2.entries import (
    ENTRY_SIZE,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    FLAG_ZERO,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, Header
from qcow2crypt.image.qcow2.runs import entry_runs
from qcow2crypt.image.qcow2.tables import end_of_run, read_table

_RESERVED = 0x3F00_0000_0000_01FE
_ALL_ALLOCATED = 0xFFFF_FFFF
_ALL_ZERO = 0xFFFF_FFFF << 32
_OFFSET_END = 1 << 56
"""No host offset is so large."""


@dataclass(frozen=True, slots=True)
class L2Fix:
    """An L2 entry to replace: ``data`` goes to host offset ``offset``; counted ``times``."""

    offset: int
    data: bytes
    times: int


@dataclass(frozen=True, slots=True)
class _Table:
    """One table: where it is, how often the disk names it, and how often anyone does."""

    offset: int
    active: int
    times: int


class L2Census:
    """Counts what L2 tables name.  ``table`` is called once for each table, with what it holds."""

    def __init__(
        self,
        file: HostFile,
        header: Header,
        refs: References,
        findings: Findings,
        *,
        repair: bool,
    ) -> None:
        self._file, self._header, self._refs, self._findings = file, header, refs, findings
        self._repair = repair
        self._data_file = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
        usual = OFFSET_MASK & -header.cluster_size | FLAG_COPIED | FLAG_ZERO
        self._unusual = ~usual & (1 << 64) - 1
        self.fixes: list[L2Fix] = []
        self.allocated = self.compressed = self.fragmented = 0

    def read(self, offset: int) -> array[int]:
        """The entries of the table at ``offset``.  Any thread may read."""
        return read_table(self._file, offset, self._header.cluster_size // ENTRY_SIZE)

    def table(self, offset: int, entries: array[int], active: int, shared: int) -> None:
        """Look at the table at ``offset``, named so often by the disk and by snapshots."""
        header, counts = self._header, self._refs.counts
        size, bits = header.cluster_size, header.cluster_bits
        bitmaps = None
        if header.extended_l2:
            entries, bitmaps = entries[::2], entries[1::2]
        times = active + shared
        table = _Table(offset, active, times)
        end = _OFFSET_END if self._data_file else self._refs.file_length
        allocated = fragmented = follower = 0
        for index, entry, count, bitmap in _runs(entries, bitmaps, size):
            host = entry & OFFSET_MASK
            usual = 0
            if host and not entry & self._unusual and not bitmap & bitmap >> 32 & _ALL_ALLOCATED:
                # The last cluster of a file may be cut short.
                usual = max(0, min(count, (end - host + size - 1) >> bits))
            if usual:
                allocated += usual
                fragmented += follower not in (0, host)
                follower = host + (usual << bits)
                if not self._data_file:
                    counts.add_run(host >> bits, usual, times)
            for more in range(usual, count):
                place = self._unusual_entry(table, index + more, entry + more * size, bitmap)
                if place is not None:
                    allocated += 1
                    fragmented += follower not in (0, place)
                    follower = place + size
        self.allocated += allocated * active
        self.fragmented += fragmented * active

    def _unusual_entry(self, table: _Table, index: int, entry: int, bitmap: int) -> int | None:
        """Count one entry of any kind; its host offset if it is a standard one that has one."""
        header, findings, times = self._header, self._findings, table.times
        if entry & FLAG_COMPRESSED:
            self._compressed(table, index, entry, bitmap)
            return None
        if entry & _RESERVED:
            findings.corruption(f"found l2 entry with reserved bits set: {entry:x}", times)
        host = entry & OFFSET_MASK
        zero = bool(entry & FLAG_ZERO) and not header.extended_l2
        if not host and not (self._data_file and entry & FLAG_COPIED):
            if bitmap & _ALL_ALLOCATED:
                findings.corruption(
                    f"l2_entry={entry:x}: Unallocated cluster has non-zero subcluster allocation "
                    "map",
                    times,
                )
            return None
        if bitmap & _ALL_ALLOCATED & bitmap >> 32:
            findings.corruption(
                f"offset={host:x}: Allocated cluster has corrupted subcluster allocation bitmap",
                times,
            )
        if host % header.cluster_size:
            empty = not bitmap & _ALL_ALLOCATED if header.extended_l2 else zero
            return self._unaligned(table, index, host, empty=empty)
        if not self._data_file:
            self._refs.region(host, header.cluster_size, DATA_CLUSTER, times)
        return host

    def _unaligned(self, table: _Table, index: int, host: int, *, empty: bool) -> int | None:
        kind = "Preallocated" if empty else "Data"
        repaired = empty and self._repair
        self._findings.corruption(
            f"offset={host:x}: {kind} cluster is not properly aligned; L2 entry corrupted.",
            table.times,
            repaired=repaired,
        )
        if repaired:
            # Nothing is stored there: the entry becomes one that reads as zeros.
            if self._header.extended_l2:
                data = struct.pack(">QQ", 0, _ALL_ZERO)
            else:
                data = struct.pack(">Q", FLAG_ZERO)
            self.fixes.append(L2Fix(table.offset + index * len(data), data, table.times))
            return None
        if not self._data_file:
            self._refs.region(host, self._header.cluster_size, DATA_CLUSTER, table.times)
        return host

    def _compressed(self, table: _Table, index: int, entry: int, bitmap: int) -> None:
        header, findings, times = self._header, self._findings, table.times
        run = parse_compressed(entry & ~FLAG_COPIED, header.cluster_bits)
        if entry & FLAG_COPIED:
            findings.corruption(
                f"coffset={run.host_offset:#x}: copied flag must never be set for compressed "
                "clusters",
                times,
            )
        if self._data_file:
            text = f"compressed cluster {index} with data file, entry={entry:#x}"
            findings.corruption(text, times)
            return
        if bitmap:
            findings.corruption(
                f"compressed cluster {index} with non-zero subcluster allocation bitmap, "
                f"entry={entry:#x}",
                times,
            )
            return
        self._refs.region(run.host_offset, run.length, COMPRESSED_CLUSTER, times)
        self.allocated += table.active
        self.compressed += table.active
        self.fragmented += table.active


def _runs(
    entries: array[int], bitmaps: array[int] | None, size: int
) -> Iterator[tuple[int, int, int, int]]:
    """``entry_runs``, and with each run its one subcluster bitmap, 0 where there are none."""
    covered = 0
    for index, entry, count in entry_runs(entries, size):
        covered += count
        if bitmaps is None:
            yield index, entry, count, 0
            continue
        at = index
        while at < index + count:
            end = end_of_run(bitmaps, at, index + count)
            yield at, entry + (at - index) * size, end - at, bitmaps[at]
            at = end
    if bitmaps is not None and covered < len(entries):
        for index, bitmap in enumerate(bitmaps):
            if bitmap and not entries[index]:
                yield index, 0, 1, bitmap
