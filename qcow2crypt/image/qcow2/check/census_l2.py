"""The part of a census that looks at L2 tables: clusters, compressed clusters, subclusters."""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.findings import Findings
from qcow2crypt.image.qcow2.check.references import COMPRESSED_CLUSTER, DATA_CLUSTER, References
from qcow2crypt.image.qcow2.entries import (
    FLAG_COMPRESSED,
    FLAG_COPIED,
    FLAG_ZERO,
    OFFSET_MASK,
    parse_compressed,
)
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, Header

_RESERVED = 0x3F00_0000_0000_01FE
_ALL_ALLOCATED = 0xFFFF_FFFF
_ALL_ZERO = 0xFFFF_FFFF << 32


@dataclass(frozen=True, slots=True)
class L2Fix:
    """An L2 entry to replace: ``data`` goes to host offset ``offset``."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Table:
    """One table: where it is, how often the disk names it, and how often anyone does."""

    offset: int
    active: int
    times: int


class L2Census:
    """Counts what L2 tables name.  ``table`` is called once for each table."""

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
        self._offset_mask = OFFSET_MASK & -header.cluster_size
        self._unusual = ~(self._offset_mask | FLAG_COPIED) & (1 << 64) - 1
        self.fixes: list[L2Fix] = []
        self.allocated = self.compressed = self.fragmented = 0

    def table(self, offset: int, active: int, shared: int) -> None:
        """Look at the table at ``offset``, named so often by the disk and by snapshots."""
        entries = array("Q", self._file.pread(self._header.cluster_size, offset))
        if not any(entries):
            return
        if sys.byteorder == "little":
            entries.byteswap()
        bitmaps = None
        if self._header.extended_l2:
            entries, bitmaps = entries[::2], entries[1::2]
        times = active + shared
        table = _Table(offset, active, times)
        counts, bits = self._refs.counts, self._header.cluster_bits
        unusual, in_file = self._unusual, self._refs.file_length
        usual = bitmaps is None and not self._data_file
        allocated = fragmented = follower = 0
        run, run_length = 0, 0
        for index, entry in enumerate(entries):
            if not entry and bitmaps is None:
                continue
            if usual and not entry & unusual and (host := entry & ~FLAG_COPIED) < in_file:
                if not host:
                    continue
                allocated += 1
                if host != follower or not run_length:
                    fragmented += follower not in (0, host)
                    counts.add_run(run, run_length, times)
                    run, run_length = host >> bits, 0
                run_length += 1
                follower = host + (1 << bits)
                continue
            bitmap = 0 if bitmaps is None else bitmaps[index]
            place = self._unusual_entry(table, index, entry, bitmap)
            if place is not None:
                allocated += 1
                fragmented += follower not in (0, place)
                counts.add_run(run, run_length, times)
                run, run_length = 0, 0
                follower = place + (1 << bits)
        counts.add_run(run, run_length, times)
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
            self.fixes.append(L2Fix(table.offset + index * len(data), data))
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
