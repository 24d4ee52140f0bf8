"""Compressed clusters of one file, decompressed and kept for a while.

Knows where compressed bytes lie and how; knows no tables and no keys.  Compressed clusters are
stored in clear, inside encrypted images too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from qcow2crypt.errors import CompressedDataError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.compressed import DecompressError, decompress
from qcow2crypt.image.qcow2.entries import parse_compressed
from qcow2crypt.image.qcow2.header import Header

_KEPT_BYTES = 4 << 20


class DecompressedClusters:
    """Keeps up to 4 MiB of decompressed clusters, the last used the longest.  Thread-safe."""

    def __init__(self, file: HostFile, header: Header) -> None:
        self._file = file
        self._header = header
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_max = max(1, _KEPT_BYTES // header.cluster_size)
        self._lock = threading.Lock()

    def cluster(self, entry: int, guest_offset: int) -> bytes:
        """The whole cluster behind a compressed L2 entry.

        ``guest_offset`` is where it begins, for messages.  Raises CompressedDataError,
        UnsupportedFeatureError, SourceError.
        """
        with self._lock:
            plain = self._kept.get(entry)
            if plain is not None:
                self._kept.move_to_end(entry)
                return plain
        plain = self._decompress(entry, guest_offset)
        with self._lock:
            self._kept[entry] = plain
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return plain

    def _decompress(self, entry: int, guest_offset: int) -> bytes:
        header = self._header
        run = parse_compressed(entry, header.cluster_bits)
        length = max(0, min(run.length, self._file.size - run.host_offset))
        data = self._file.pread(length, run.host_offset)
        try:
            return decompress(data, header.cluster_size, header.compression_type)
        except DecompressError as error:
            raise CompressedDataError(
                "compressed cluster cannot be read",
                field="compressed data",
                offset=run.host_offset,
                found=str(error),
                allowed=f"data for exactly {header.cluster_size} bytes",
                guest_offset=guest_offset,
            ) from error

    def forget(self, entry: int) -> None:
        """Something else was stored there."""
        with self._lock:
            self._kept.pop(entry, None)

    def clear(self) -> None:
        """Forget all: what was read may not be what is in the file now."""
        with self._lock:
            self._kept.clear()
