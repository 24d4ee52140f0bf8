"""Compressed clusters of one file: read, decompressed, and some of them kept for a while.

Knows how the bytes of a cluster are compressed; knows no tables and no keys.  Compressed clusters
are stored in clear, inside encrypted images too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from qcow2crypt.errors import CompressedDataError, SourceError
from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.compressed import DecompressError
from qcow2crypt.image.qcow2.decompressors import decompressor, many_decompressor
from qcow2crypt.units import ReadBuffer

_KEPT_BYTES = 4 << 20
_PASSING_BYTES = 256 << 10
"""Who reads so much at once goes through the disk, and does not soon come back."""
_READ_BYTES = 1 << 20
"""So much is read from the file at once, or one cluster that takes more."""
_GAP_MAX = 4096
"""So much between two clusters is read with them."""
_AT_ONCE_BYTES = 1 << 20
"""So much is decompressed in one call at most: what the second cache of a processor has."""
_MANY = 4
"""For fewer that call is not quicker: it begins by making a decompressor."""


class DecompressedClusters:
    """Keeps up to 4 MiB of decompressed clusters, the last used the longest.  Thread-safe.

    Whole clusters of a long read are not kept, and neighbours in the file are read together.
    """

    def __init__(self, file: HostFile, cluster_size: int, compression_type: int) -> None:
        self._file = file
        self.cluster_size = cluster_size
        self._compression_type = compression_type
        self._kept: OrderedDict[CompressedRun, bytes] = OrderedDict()
        self._kept_max = max(1, _KEPT_BYTES // cluster_size)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def read(self, view: memoryview, start: int, runs: Sequence[CompressedRun]) -> int:
        """Fill ``view`` with guest bytes from ``start`` on, out of the clusters in ``runs``.

        The first of them has ``start`` in it.  Gives how much is filled: all, or up to the end of
        the last cluster.  Raises CompressedDataError, UnsupportedFeatureError, SourceError.
        """
        size = self.cluster_size
        skip = start % size
        if skip + view.nbytes < size:  # most reads at random
            view[:] = self._cluster(runs[0], start - skip)[skip : skip + view.nbytes]
            return view.nbytes
        length = min(view.nbytes, len(runs) * size - skip)
        done = number = 0
        while done < length:
            if length - done >= _PASSING_BYTES and not skip and length - done >= size:
                whole = (length - done) // size
                passing = runs[number : number + whole]
                for plain in self._decompressed(passing, start + done):
                    view[done : done + size] = plain
                    done += size
                number += whole
            else:
                count = min(size - skip, length - done)
                plain = self._cluster(runs[number], start + done - skip)
                view[done : done + count] = plain[skip : skip + count]
                done += count
                number += 1
                skip = 0
        return length

    def _cluster(self, run: CompressedRun, guest_offset: int) -> bytes:
        with self._lock:
            plain = self._kept.get(run)
            if plain is not None:
                self._kept.move_to_end(run)
                return plain
        (found,) = self._decompressed((run,), guest_offset)
        plain = bytes(found)
        with self._lock:
            self._kept[run] = plain
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return plain

    def _decompressed(
        self, runs: Sequence[CompressedRun], guest_offset: int
    ) -> Iterator[ReadBuffer]:
        """The plain bytes of clusters that follow one another on the disk."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._file, self.cluster_size, self._compression_type)
        at_once = max(1, _AT_ONCE_BYTES // self.cluster_size)
        for group, data, start in worker.stored(runs):
            for first in range(0, len(group), at_once):
                part = group[first : first + at_once]
                many = worker.all_of(part, data, start)
                yield from many or self._one_by_one(worker, part, data, start, guest_offset)
                guest_offset += len(part) * self.cluster_size
        self._idle.append(worker)

    def _one_by_one(
        self,
        worker: _Worker,
        runs: Sequence[CompressedRun],
        data: memoryview,
        start: int,
        guest_offset: int,
    ) -> Iterator[ReadBuffer]:
        for run in runs:
            at = run.host_offset - start
            try:
                yield worker.decompress(data[at : at + run.length])
            except DecompressError as error:
                raise CompressedDataError(
                    "compressed cluster cannot be read",
                    field="compressed data",
                    offset=run.host_offset,
                    found=str(error),
                    allowed=f"data for exactly {self.cluster_size} bytes",
                    guest_offset=guest_offset,
                ) from error
            guest_offset += self.cluster_size

    def forget(self, run: CompressedRun) -> None:
        """Something else was stored there."""
        with self._lock:
            self._kept.pop(run, None)

    def clear(self) -> None:
        """Forget all: what was read may not be what is in the file now."""
        with self._lock:
            self._kept.clear()


class _Worker:
    """What one thread at a time needs: decompressors, and a buffer to be used again and again."""

    __slots__ = ("_buffer", "_file", "_last", "_many", "decompress")

    def __init__(self, file: HostFile, cluster_size: int, compression_type: int) -> None:
        self._file = file
        self._buffer = memoryview(b"")
        self._last: Sequence[ReadBuffer] | None = None
        self._many = many_decompressor(cluster_size, compression_type)
        self.decompress = decompressor(cluster_size, compression_type)

    def all_of(
        self, runs: Sequence[CompressedRun], data: memoryview, start: int
    ) -> Sequence[ReadBuffer] | None:
        """All of these clusters in one call, out of bytes that lie at ``start`` in the file.

        None where that cannot be done.
        """
        if self._many is None or len(runs) < _MANY:
            return None
        places = [(at - start, at - start + length) for at, length in runs]
        # Those before are let go after these are there: else malloc may give all its memory back
        # to the kernel each time, which must then find and clear it anew.
        self._last = self._many(data, places)
        return self._last

    def stored(
        self, runs: Sequence[CompressedRun]
    ) -> Iterator[tuple[Sequence[CompressedRun], memoryview, int]]:
        """Clusters that are read together, their stored bytes, until the next are asked for, and
        where those begin in the file.
        """
        for group, start, end in _neighbours(runs):
            data = self._read_or_none(start, end) if len(group) > 1 else None
            if data is not None:
                yield group, data, start
                continue
            for run in group:
                at = run.host_offset
                yield (run,), self._read(at, at + run.length), at

    def _read_or_none(self, start: int, end: int) -> memoryview | None:
        """As ``_read``; None for what cannot be read, where a part of it perhaps can."""
        try:
            return self._read(start, end)
        except SourceError:
            return None

    def _read(self, start: int, end: int) -> memoryview:
        """What the file has of a range."""
        length = max(0, min(end, self._file.size) - start)
        if length > self._buffer.nbytes:
            self._buffer = memoryview(bytearray(length))
        data = self._buffer[:length]
        self._file.pread_into(data, start)
        return data


def _neighbours(
    runs: Sequence[CompressedRun],
) -> Iterator[tuple[Sequence[CompressedRun], int, int]]:
    """The runs in groups that lie close together, in the same order; where a group begins and ends.

    A group of several takes at most ``_READ_BYTES``.  Runs may overlap: they end with a sector.
    """
    first = start = end = 0
    for number, (offset, length) in enumerate(runs):
        stop = max(end, offset + length)
        if number == first:
            start, end = offset, offset + length
        elif start <= offset <= end + _GAP_MAX and stop - start <= _READ_BYTES:
            end = stop
        else:
            yield runs[first:number], start, end
            first, start, end = number, offset, offset + length
    yield runs[first:], start, end
