"""Which library decompresses clusters: a faster one if it is installed, for what is usual.

The faster libraries are asked first, and believed only when they say that all is well: one stream
that ends with exactly one cluster.  Whatever else there is, ``compressed`` decides, the slow twin:
so what is accepted, and how errors are told, does not depend on what is installed.
Source: RFC 8878 for the head of a zstd frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

from qcow2crypt.image.qcow2.compressed import WINDOW_BITS, decompress
from qcow2crypt.image.qcow2.header import COMPRESSION_ZSTD
from qcow2crypt.units import ReadBuffer

Decompressor: TypeAlias = Callable[[ReadBuffer], bytes]
"""From stored bytes to one cluster; for one thread at a time.  Errors as ``decompress``."""


def decompressor(cluster_size: int, compression_type: int) -> Decompressor:
    """The fastest one here for clusters of this size and type."""

    def slow(data: ReadBuffer) -> bytes:
        return decompress(data, cluster_size, compression_type)

    if compression_type == COMPRESSION_ZSTD:
        module = _imported("zstandard")
        return slow if module is None else _by_zstandard(module, cluster_size, slow)
    module = _imported("zlib_ng.zlib_ng")
    return slow if module is None else _by_zlib_ng(module, cluster_size, slow)


def _imported(name: str) -> Any:  # noqa: ANN401 - a module, or None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _by_zlib_ng(module: Any, cluster_size: int, slow: Decompressor) -> Decompressor:  # noqa: ANN401
    make, failure = module.decompressobj, module.error

    def fast(data: ReadBuffer) -> bytes:
        inflater = make(WINDOW_BITS)
        try:
            plain: bytes = inflater.decompress(data, cluster_size)
        except failure:
            return slow(data)
        return plain if inflater.eof and len(plain) == cluster_size else slow(data)

    return fast


def _by_zstandard(module: Any, cluster_size: int, slow: Decompressor) -> Decompressor:  # noqa: ANN401
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


def _usual_head(cluster_size: int) -> bytes:
    """How a frame begins that promises one cluster, as one segment and without a checksum."""
    magic, single_segment = b"\x28\xb5\x2f\xfd", 0x20
    if cluster_size < 1 << 16 | 256:
        return magic + bytes([0x40 | single_segment]) + (cluster_size - 256).to_bytes(2, "little")
    return magic + bytes([0x80 | single_segment]) + cluster_size.to_bytes(4, "little")
