"""Repair a qcow2 file: leaks alone, or everything that can be put right.

What can be mended and what cannot is as with ``qemu-img check -r``; how it is written is not.
Leaks are counts lowered in place.  Anything more is a switch: new refcounts beside the old ones,
then one write of the header.  Flags that forbid writing in place are set right before the
switch, flags that allow it after it, so a crash leaves nothing worse than it was.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from qcow2crypt.errors import ReadOnlyError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bulk.switch import Switch, write_header
from qcow2crypt.image.qcow2.check.copied import FirstOf, Refcounts, copied_flaws
from qcow2crypt.image.qcow2.check.findings import Finding, Findings, Report, silent
from qcow2crypt.image.qcow2.check.inspection import Inspection, read_damaged_structure
from qcow2crypt.image.qcow2.check.order import InOrder, one_by_one
from qcow2crypt.image.qcow2.check.stored import StoredRefcounts
from qcow2crypt.image.qcow2.header import (
    AUTOCLEAR_BITMAPS,
    AUTOCLEAR_RAW_DATA_FILE,
    INCOMPAT_CORRUPT,
    INCOMPAT_DIRTY,
)
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.units import div_up

RepairKind: TypeAlias = Literal["leaks", "all"]
_AUTOCLEAR_KNOWN = AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA_FILE


class Repair:
    """One repair of one file, done when it is made.

    ``found`` is what was seen before.  ``leaks_fixed`` and ``corruptions_fixed`` count as
    qemu-img counts; ``fatal`` says why nothing could be repaired, else None.
    Raises TargetError, SourceError.
    """

    def __init__(
        self,
        file: HostFile,
        structure: Structure,
        kind: RepairKind,
        report: Report,
        in_order: InOrder = one_by_one,
    ) -> None:
        self._file = file
        self._header = structure.header
        everything = kind == "all"
        self.found = Inspection(file, structure, report, in_order, repair=everything)
        self.leaks_fixed = self.corruptions_fixed = 0
        self.fatal = self.found.fatal
        if self.fatal is None and not everything and self.found.rebuild:
            self.fatal = "the refcounts must be written anew: repair all (-r all), not leaks alone"
        if self.fatal is None and everything and self.found.census.refs.far:
            self.fatal = "tables name too much that lies outside the file: nothing was changed"
        if self.fatal is not None:
            return
        self._clear_unknown()
        numbers = self.found.findings
        if everything:
            self._all(report)
        else:
            self._leaks()
            if numbers.errors or numbers.corruptions:
                self.found.look_at_flags(file, structure)
            else:
                self._all_flags(report)
        if not numbers.errors and not numbers.corruptions:
            features = self._header.incompatible_features & ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT)
            self._set(incompatible_features=features)

    def _clear_unknown(self) -> None:
        """As every writer must: clear the autoclear bits of features that are not known here."""
        self._set(autoclear_features=self._header.autoclear_features & _AUTOCLEAR_KNOWN)

    def _set(self, **fields: int) -> None:
        header = self._header._replace(**fields)
        if header != self._header:
            write_header(self._file, header)
            self._header = header

    def _leaks(self) -> None:
        """Lower the counts that are too high.  Each block is one write; any order is safe."""
        comparison, numbers = self.found.comparison, self.found.findings
        for index in comparison.leaks:
            self._file.pwrite(comparison.without_leaks(index), self.found.stored.offset(index))
        self._file.flush()
        self.leaks_fixed, numbers.leaks = numbers.leaks, 0

    def _all(self, report: Report) -> None:
        census, comparison, numbers = self.found.census, self.found.comparison, self.found.findings
        for fix in census.fixes:
            if self._is_table(fix.offset):
                self._file.pwrite(fix.data, fix.offset)
            else:
                numbers.corruptions += fix.times
                numbers.corruptions_fixed -= fix.times
        self._file.flush()
        miscounts = comparison.corruptions + census.structure_corruptions
        numbers.corruptions -= miscounts
        if self.found.rebuild or miscounts or census.snapshots_changed:
            refcounts = FirstOf(census.content, census.refs.outside)
            self._flags(refcounts, report, clearing=True)
            self._switch()
            self.leaks_fixed, numbers.leaks, numbers.errors = numbers.leaks, 0, 0
        else:
            self._leaks()
        if not numbers.errors:
            self._all_flags(report)
        self.corruptions_fixed += numbers.corruptions_fixed + miscounts

    def _all_flags(self, report: Report) -> None:
        stored = StoredRefcounts(self._file, self._header)
        for clearing in (True, False):
            self._flags(stored, report, clearing=clearing, left=self.found.findings)

    def _flags(
        self,
        refcounts: Refcounts,
        report: Report,
        *,
        clearing: bool,
        left: Findings | None = None,
    ) -> None:
        """Put right the COPIED flags that must be cleared, or those that must be set.

        ``left`` is told what stays wrong.
        """
        flaws = copied_flaws(self._file, self._header, refcounts)
        for flaw in (one for each in flaws if each.clears == clearing for one in each.single()):
            if self._is_table(flaw.offset):
                flaw.write(self._file)
                self.corruptions_fixed += 1
                report(Finding("corruption", flaw.text, repaired=True))
            elif left is not None:
                left.corruption(flaw.text)
        self._file.flush()

    def _is_table(self, offset: int) -> bool:
        """May an L1 or L2 entry at this host offset be changed, or may it be data, too?"""
        return not self.found.census.mixed[offset >> self._header.cluster_bits]

    def _switch(self) -> None:
        """Write new refcounts, and a new snapshot table where that changes."""
        census, header = self.found.census, self._header
        outside = census.refs.outside
        outside.clamp(census.refs.max)
        switch = Switch(self._file, header, (census.counts,), census.content, outside)
        fields = {}
        if census.snapshots_changed:
            for cluster in census.snapshot_table:
                switch.wanted.add(cluster, -1)
            table = census.pack_snapshots()
            fields = {"snapshots_offset": 0, "nb_snapshots": len(census.snapshots)}
            if table:
                size = header.cluster_size
                clusters = div_up(len(table), size)
                first = switch.allocate(clusters)
                self._file.pwrite(table.ljust(clusters * size, b"\0"), first * size)
                fields["snapshots_offset"] = first * size
        self._header = switch.commit(**fields)


def repair_dirty(file: HostFile) -> None:
    """Make an image consistent that was not closed cleanly, before it is written to.

    Raises ReadOnlyError, and leaves the image marked as it is, when something stays wrong.
    """
    structure = read_damaged_structure(file)
    done = Repair(file, structure, "all", silent)
    if done.fatal is None:
        structure = read_damaged_structure(file)
        if not structure.header.incompatible_features & INCOMPAT_DIRTY:
            return
    raise ReadOnlyError(
        f"'{file.name}' was not closed cleanly, and not all of it can be repaired"
        + (f": {done.fatal}" if done.fatal else "")
        + ". It can be read; 'qcow2crypt check' tells more"
    )
