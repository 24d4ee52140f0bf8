"""One look at all metadata of a qcow2 file: census, refcounts, COPIED flags.  Changes nothing.

The numbers are those of ``qemu-img check``.
"""

from __future__ import annotations

import io

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.check.census import Census
from qcow2crypt.image.qcow2.check.copied import FirstOf, Refcounts, report_flaws
from qcow2crypt.image.qcow2.check.findings import Findings, Report
from qcow2crypt.image.qcow2.check.order import InOrder, one_by_one
from qcow2crypt.image.qcow2.check.stored import Comparison, StoredRefcounts
from qcow2crypt.image.qcow2.header import CLUSTER_BITS_MAX, SNAPSHOTS_MAX
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.units import SECTOR_SIZE, align_down, div_up

_CLUSTERS_MAX = 2**31 - 1


class Inspection:
    """What was found.  ``fatal`` says why the look ended early, else None.

    ``repair`` only tells the findings that a repair follows.  ``in_order`` reads the tables.
    """

    def __init__(
        self,
        file: HostFile,
        structure: Structure,
        report: Report,
        in_order: InOrder = one_by_one,
        *,
        repair: bool = False,
    ) -> None:
        self._in_order = in_order
        header = structure.header
        self.findings = Findings(report)
        self.census = Census(file, structure, self.findings, in_order, repair=repair)
        self.stored = StoredRefcounts(file, header)
        clusters = self.census.refs.clusters
        self.total_clusters = div_up(align_down(header.size, SECTOR_SIZE), header.cluster_size)
        self.fatal: str | None = None
        if clusters > _CLUSTERS_MAX:
            self.fatal = "the file has too many clusters"
            self.findings.error(self.fatal)
            return
        self.census.take()
        self.fatal = self.census.fatal
        if self.fatal is not None:
            return
        counts = self.census.counts
        self.comparison = Comparison(
            self.stored, counts, max(clusters, counts.end), header.refcount_order
        )
        self.comparison.run(self.findings, in_order)

    @property
    def rebuild(self) -> bool:
        """The refcounts cannot be mended, only written anew."""
        return self.census.rebuild or self.comparison.rebuild

    def look_at_flags(self, file: HostFile, structure: Structure) -> None:
        """Report wrong COPIED flags."""
        refcounts: Refcounts = self.stored
        if self.comparison.equal:
            # The census is at hand, and faster.
            refcounts = FirstOf(self.census.counts, self.stored)
        report_flaws(file, structure.header, refcounts, self.findings, self._in_order)


def read_damaged_structure(file: HostFile) -> Structure:
    """``read_structure``, but for what a check can tell and a repair can mend: no refcount table
    at all, or too many snapshots.  Raises HeaderError, SourceError.
    """
    start = bytearray(file.pread(min(file.size, 1 << CLUSTER_BITS_MAX), 0))
    table = int.from_bytes(start[56:60], "big")
    snapshots = int.from_bytes(start[60:64], "big")
    if table and snapshots <= SNAPSHOTS_MAX:
        return read_structure(file)
    start[56:60] = max(1, table).to_bytes(4, "big")
    start[60:64] = min(SNAPSHOTS_MAX, snapshots).to_bytes(4, "big")
    found = read_structure(HostFile(io.BytesIO(start)))
    header = found.header._replace(refcount_table_clusters=table, nb_snapshots=snapshots)
    return found._replace(header=header)


def inspect(
    file: HostFile, structure: Structure, report: Report, in_order: InOrder = one_by_one
) -> Inspection:
    """Look at everything.  Raises SourceError."""
    found = Inspection(file, structure, report, in_order)
    if found.fatal is None:
        found.look_at_flags(file, structure)
    return found
