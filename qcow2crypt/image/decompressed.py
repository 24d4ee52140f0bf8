"""Compressed clusters of one file, decompressed and kept for a while.

Knows how the bytes of a cluster are compressed; knows no tables and no keys.  Compressed clusters
are stored in clear, inside encrypted images too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from qcow2crypt.errors import CompressedDataError
from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress

_KEPT_BYTES = 4 << 20


class DecompressedClusters:
    """Keeps up to 4 MiB of decompressed clusters, the last used the longest.  Thread-safe."""

    def __init__(self, file: HostFile, cluster_size: int, compression_type: int) -> None:
        self._file = file
        self._cluster_size = cluster_size
        self._compression_type = compression_type
        self._kept: OrderedDict[CompressedRun, bytes] = OrderedDict()
        self._kept_max = max(1, _KEPT_BYTES // cluster_size)
        self._lock = threading.Lock()

    def read(self, view: memoryview, start: int, run: CompressedRun) -> None:
        """Fill ``view`` with guest bytes from ``start`` on, out of the one cluster in ``run``.

        Raises CompressedDataError, UnsupportedFeatureError, SourceError.
        """
        skip = start % self._cluster_size
        plain = self._cluster(run, start - skip)
        view[:] = plain[skip : skip + view.nbytes]

    def _cluster(self, run: CompressedRun, guest_offset: int) -> bytes:
        with self._lock:
            plain = self._kept.get(run)
            if plain is not None:
                self._kept.move_to_end(run)
                return plain
        plain = self._decompress(run, guest_offset)
        with self._lock:
            self._kept[run] = plain
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return plain

    def _decompress(self, run: CompressedRun, guest_offset: int) -> bytes:
        length = max(0, min(run.length, self._file.size - run.host_offset))
        data = self._file.pread(length, run.host_offset)
        try:
            return decompress(data, self._cluster_size, self._compression_type)
        except DecompressError as error:
            raise CompressedDataError(
                "compressed cluster cannot be read",
                field="compressed data",
                offset=run.host_offset,
                found=str(error),
                allowed=f"data for exactly {self._cluster_size} bytes",
                guest_offset=guest_offset,
            ) from error

    def forget(self, run: CompressedRun) -> None:
        """Something else was stored there."""
        with self._lock:
            self._kept.pop(run, None)

    def clear(self) -> None:
        """Forget all: what was read may not be what is in the file now."""
        with self._lock:
            self._kept.clear()
