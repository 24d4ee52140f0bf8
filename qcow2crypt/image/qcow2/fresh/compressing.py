"""Fill a qcow2 image with compressed clusters, as ``qemu-img convert -c`` does.

Collects guest data to whole clusters, compresses them side by side and stores them in order.
Knows no tables.  Source: the qcow2 document, "Compressed Clusters Descriptor"; the parameters of
deflate are QEMU's, so that a file is the same byte for byte where the libraries agree.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Protocol

from qcow2crypt.image.qcow2.compressed import zstd_module
from qcow2crypt.image.qcow2.fresh.writer import Backing
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.units import GuestOffset, ReadBuffer

_WINDOW_BITS = -12
_MEMORY_LEVEL = 9
_BATCH_BYTES = 2 << 20
_THREADS = 4


def compressor(options: Qcow2Options) -> Callable[[bytes], bytes]:
    """What turns one cluster into its compressed form, of any length.

    Raises UnsupportedFeatureError when this Python has no zstd.
    """
    if options.compression_type == "zstd":
        zstd = zstd_module()
        return lambda data: bytes(zstd.compress(data))

    def deflate(data: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=_WINDOW_BITS, memLevel=_MEMORY_LEVEL)
        return deflater.compress(data) + deflater.flush()

    return deflate


class ClusterTarget(Protocol):
    """An image that takes clusters in ascending order: a new one, or one that is changed."""

    size: int

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes as they are."""

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Let a range read as zeros."""

    def write_compressed(self, offset: GuestOffset, stored: bytes) -> None:
        """Store one cluster of which ``stored`` is the compressed form."""

    def finish(self) -> None:
        """Write what is left."""


class CompressingWriter:
    """Before a target: takes runs of guest data and stores compressed clusters.

    A cluster that does not get shorter is stored as it is.  Clusters of zeros are left out unless
    ``keep_zeros``; with a backing file they are marked as zeros.  What is not written of a cluster
    that is stored comes from ``backing``, or is zeros: the backing file of a new image, the present
    disk of one that is changed.
    """

    def __init__(
        self,
        writer: ClusterTarget,
        options: Qcow2Options,
        *,
        keep_zeros: bool = False,
        backing: Backing | None = None,
    ) -> None:
        self._writer = writer
        self._compress = compressor(options)
        self._cluster_size = options.cluster_size
        self._keep_zeros = keep_zeros
        self._backing = backing
        self._clusters: dict[int, bytearray] = {}
        """Guest offset to content: clusters that wait to be compressed; the last may be open."""

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store guest bytes: whole sectors, behind all that was written before."""
        view = memoryview(data).cast("B")
        done = 0
        while done < view.nbytes:
            at = offset + done
            within = at % self._cluster_size
            part = view[done : done + self._cluster_size - within]
            self._cluster(at - within)[within : within + part.nbytes] = part
            done += part.nbytes

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Let a range read as zeros."""
        if self._backing is None:
            return
        size, end = self._cluster_size, offset + length
        position = int(offset)
        while position < end:
            within = position % size
            part = min(size - within, end - position)
            if within or (part < size and end < self._writer.size):
                self._cluster(position - within)[within : within + part] = bytes(part)
            else:
                part = end - position
                part = part if end == self._writer.size else part - part % size
                self._flush()
                self._writer.write_zeroes(GuestOffset(position), part)
            position += part

    def finish(self) -> None:
        """Write what is left."""
        self._flush()
        self._writer.finish()

    def _cluster(self, start: int) -> bytearray:
        """The content of the cluster at a guest offset, to be changed."""
        cluster = self._clusters.get(start)
        if cluster is None:
            if len(self._clusters) * self._cluster_size >= _BATCH_BYTES:
                self._flush()
            if self._backing is None:
                cluster = bytearray(self._cluster_size)
            else:
                old = self._backing.pread(self._cluster_size, start)
                cluster = bytearray(old.ljust(self._cluster_size, b"\0"))
            self._clusters[start] = cluster
        return cluster

    def _flush(self) -> None:
        """Compress what has been collected and store it in guest order."""
        full = [(start, bytes(data)) for start, data in self._clusters.items()]
        self._clusters.clear()
        wanted = [(start, data) for start, data in full if self._keep_zeros or any(data)]
        if len(wanted) > 1:
            from concurrent.futures import ThreadPoolExecutor  # takes milliseconds to load

            with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
                short = list(pool.map(self._compress, (data for _, data in wanted)))
        else:
            short = [self._compress(data) for _, data in wanted]
        stored = dict(zip((start for start, _ in wanted), short, strict=True))
        for start, data in full:
            self._put(GuestOffset(start), data, stored.get(start))

    def _put(self, start: GuestOffset, data: bytes, short: bytes | None) -> None:
        length = min(self._cluster_size, self._writer.size - start)
        if short is None:
            self._writer.write_zeroes(start, length)
        elif len(short) < self._cluster_size:
            self._writer.write_compressed(start, short)
        else:
            self._writer.write(start, data[:length])


class GrowingTarget(ClusterTarget, Protocol):
    """A new image whose size is not known from the start."""

    def grow(self, size: int) -> None:
        """The disk has at least so many bytes."""


class NewCompressingWriter(CompressingWriter):
    """The same for a new image, which may grow."""

    def __init__(
        self,
        writer: GrowingTarget,
        options: Qcow2Options,
        *,
        keep_zeros: bool = False,
        backing: Backing | None = None,
    ) -> None:
        super().__init__(writer, options, keep_zeros=keep_zeros, backing=backing)
        self._growing = writer

    def grow(self, size: int) -> None:
        """See ``Qcow2Writer.grow``."""
        self._growing.grow(size)
