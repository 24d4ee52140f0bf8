"""A guest range that shall read as zeros: which parts by their L2 entries, which by data.

Whole clusters and subclusters get a flag (``zeroing``).  The ragged ends are written as data, or
are flagged too where all else in their cluster shows zeros already, as QEMU does it.

Knows guest ranges and extents, no tables.
"""

from __future__ import annotations

from collections.abc import Callable

from qcow2crypt.image.base import ExtentKind, Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.zeroing import ClusterEraser, Removal
from qcow2crypt.units import align_down, align_up

_ZEROS = memoryview(bytes(1 << 20))
_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


class RangeZeroer:
    """Makes ranges of ``image`` zero, by ``eraser`` and by ``write(data, guest offset)``."""

    def __init__(
        self, image: Image, eraser: ClusterEraser, write: Callable[[memoryview, int], None]
    ) -> None:
        self.eraser = eraser
        self.raw_data_file: HostFile | None = None
        """A data file that is to be the guest disk itself, so zeros are written to it as well."""
        self._image = image
        self._write = write
        self._cluster_size = eraser.cluster_size

    def write_zeros(self, start: int, end: int) -> None:
        """Zeros as data."""
        for at in range(start, end, len(_ZEROS)):
            self._write(_ZEROS[: min(len(_ZEROS), end - at)], at)

    def zero(self, start: int, end: int, how: Removal) -> None:
        """Let a range inside the disk read as zeros."""
        if self.raw_data_file is not None:
            for at in range(start, end, len(_ZEROS)):
                self.raw_data_file.pwrite(_ZEROS[: min(len(_ZEROS), end - at)], at)
        if not self.eraser.can_zero:
            self.write_zeros(start, end)
            return
        unit = self.eraser.unit
        first = align_up(start, unit)
        # What is behind the end of the disk in its last unit is nobody's.
        last = align_up(end, unit) if end == self._image.size else align_down(end, unit)
        if first > last or first >= end:
            self._part(start, end)
            return
        if start < first:
            self._part(start, first)
        self._units(first, last, how)
        if last < end:
            self._part(last, end)

    def _units(self, first: int, last: int, how: Removal) -> None:
        """Whole units: clusters, and where the ends are subclusters, these."""
        whole = align_up(first, self._cluster_size)
        whole_end = align_down(last, self._cluster_size)
        if whole > whole_end:
            self._subclusters(first, last)
            return
        if first < whole:
            self._subclusters(first, whole)
        self.eraser.clusters(whole, whole_end, how)
        if whole_end < last:
            self._subclusters(whole_end, last)

    def _subclusters(self, first: int, last: int) -> None:
        if not self.eraser.subclusters(first, last):
            self.write_zeros(first, min(last, self._image.size))

    def _part(self, start: int, end: int) -> None:
        """Less than one unit.  If the rest of it shows zeros and has no data, all of it is zero."""
        image = self._image
        first = align_down(start, self.eraser.unit)
        last = first + self.eraser.unit
        stop = min(last, image.size)
        empty = all(
            extent.reads_as_zero
            for begin, length in ((first, start - first), (end, stop - end))
            for extent in image.extents(begin, length)
        )
        if empty and all(own.kind not in _STORED for own in image.own_extents(first, stop - first)):
            self._units(first, last, Removal.ZERO)
        else:
            self.write_zeros(start, end)
