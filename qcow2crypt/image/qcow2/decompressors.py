"""Which library decompresses clusters: a faster one if it is installed, for what is usual.

The faster libraries are asked first, and believed only when they say that all is well: one stream
that ends with exactly one cluster.  Whatever else there is, ``compressed`` decides, the slow twin:
so what is accepted, and how errors are told, does not depend on what is installed.
Source: RFC 8878 for the head of a zstd frame.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeAlias

from qcow2crypt.image.qcow2.compressed import WINDOW_BITS, decompress
from qcow2crypt.image.qcow2.header import COMPRESSION_ZSTD
from qcow2crypt.units import ReadBuffer

Decompressor: TypeAlias = Callable[[ReadBuffer], bytes]
"""From stored bytes to one cluster; for one thread at a time.  Errors as ``decompress``."""
ManyDecompressor: TypeAlias = Callable[
    [memoryview, Sequence[tuple[int, int]]], Sequence[ReadBuffer] | None
]
"""From bytes with several stored clusters in them, and where each begins and ends, to all of the
clusters; for one thread at a time.  None where one of them must be looked at alone.
"""


def decompressor(cluster_size: int, compression_type: int) -> Decompressor:
    """The fastest one here for clusters of this size and type."""

    def slow(data: ReadBuffer) -> bytes:
        return decompress(data, cluster_size, compression_type)

    if compression_type == COMPRESSION_ZSTD:
        module = _imported("zstandard")
        return slow if module is None else _by_zstandard(module, cluster_size, slow)
    module = _imported("zlib_ng.zlib_ng")
    return slow if module is None else _by_zlib_ng(module, cluster_size, slow)


def many_decompressor(cluster_size: int, compression_type: int) -> ManyDecompressor | None:
    """What decompresses several clusters in one call, if there is something here that does.

    Python's lock is then taken and given back once for all of them.
    """
    if compression_type != COMPRESSION_ZSTD:
        return None
    module = _imported("zstandard")
    # The backend in C has it, and no other.
    if module is None or not hasattr(module.ZstdDecompressor, "multi_decompress_to_buffer"):
        return None
    return _many_by_zstandard(module, cluster_size)


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _by_zlib_ng(module: ModuleType, cluster_size: int, slow: Decompressor) -> Decompressor:
    make, failure = module.decompressobj, module.error

    def fast(data: ReadBuffer) -> bytes:
        inflater = make(WINDOW_BITS)
        try:
            plain: bytes = inflater.decompress(data, cluster_size)
        except failure:
            return slow(data)
        return plain if inflater.eof and len(plain) == cluster_size else slow(data)

    return fast


def _by_zstandard(module: ModuleType, cluster_size: int, slow: Decompressor) -> Decompressor:
    expand, failure = module.ZstdDecompressor().decompress, module.ZstdError
    usual = _usual_head(cluster_size)

    def fast(data: ReadBuffer) -> bytes:
        # The library makes room for as many bytes as the head of the frame promises.
        if data[: len(usual)] != usual:
            return slow(data)
        try:
            plain: bytes = expand(data)
        except failure:
            return slow(data)
        return plain if len(plain) == cluster_size else slow(data)

    return fast


def _many_by_zstandard(module: ModuleType, cluster_size: int) -> ManyDecompressor:
    expand, failure = module.ZstdDecompressor().multi_decompress_to_buffer, module.ZstdError
    in_buffer = module.BufferWithSegments
    usual = _usual_head(cluster_size)
    size = struct.pack("=Q", cluster_size)

    def fast(data: memoryview, places: Sequence[tuple[int, int]]) -> Sequence[ReadBuffer] | None:
        segments: list[int] = []
        for start, end in places:
            # The library believes what it is told about places.
            if not 0 <= start < end <= data.nbytes or data[start : start + len(usual)] != usual:
                return None
            segments += (start, end - start)
        packed = struct.pack(f"={len(segments)}Q", *segments)
        try:
            plain: Sequence[ReadBuffer] = expand(
                in_buffer(data, packed), decompressed_sizes=size * len(places)
            )
        except failure:
            return None
        return plain

    return fast


def _usual_head(cluster_size: int) -> bytes:
    """How a frame begins that promises one cluster, as one segment and without a checksum."""
    magic, single_segment = b"\x28\xb5\x2f\xfd", 0x20
    if cluster_size < 1 << 16 | 256:
        return magic + bytes([0x40 | single_segment]) + (cluster_size - 256).to_bytes(2, "little")
    return magic + bytes([0x80 | single_segment]) + cluster_size.to_bytes(4, "little")
