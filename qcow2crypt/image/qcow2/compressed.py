"""Compressed clusters: from the stored bytes to exactly one cluster.

Knows deflate and zstd; no tables, no keys.  Compressed clusters are stored in clear, inside
encrypted images too.  Source: the qcow2 document, "Compressed Clusters Descriptor".
"""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import Any

from qcow2crypt.errors import UnsupportedFeatureError
from qcow2crypt.image.qcow2.header import COMPRESSION_ZSTD
from qcow2crypt.units import ReadBuffer

WINDOW_BITS = -15
"""Raw deflate.  Writers keep to a window of 4 KiB, but QEMU reads more, up to all of a cluster."""
_ZSTD_WINDOW_MAX_LOG = 27
"""The limit of the zstd tools: 128 MiB.  A cluster needs 2 MiB at most."""
_ZSTD_FRAMES_MAX = 64
"""Writers make one frame; a cluster of a million tiny frames would only keep us busy."""


class DecompressError(Exception):
    """The reason, for the caller who knows where the cluster lies."""


def decompress(data: ReadBuffer, cluster_size: int, compression_type: int) -> bytes:
    """Decompress ``data`` to ``cluster_size`` bytes.

    Bytes after the end of the stream are normal: the length in the L2 entry counts whole
    512-byte sectors.  Raises DecompressError when the stream is damaged or too short, and
    UnsupportedFeatureError when this Python has no zstd.
    """
    if compression_type == COMPRESSION_ZSTD:
        return _decompress_zstd(data, cluster_size)
    return _decompress_deflate(data, cluster_size)


def _decompress_deflate(data: ReadBuffer, cluster_size: int) -> bytes:
    inflater = zlib.decompressobj(wbits=WINDOW_BITS)
    try:
        plain = inflater.decompress(data, cluster_size)
    except zlib.error as error:
        raise DecompressError(f"damaged deflate data ({error})") from error
    if len(plain) != cluster_size:
        raise DecompressError(f"deflate data that ends after {len(plain)} bytes")
    return plain


def _decompress_zstd(data: ReadBuffer, cluster_size: int) -> bytes:
    zstd = zstd_module()
    plain = b""
    # A cluster may be stored as several frames, one after the other.
    for _ in range(_ZSTD_FRAMES_MAX):
        if len(plain) == cluster_size or not data:
            break
        inflater = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_MAX_LOG}
        )
        try:
            plain += inflater.decompress(data, cluster_size - len(plain))
        except zstd.ZstdError as error:
            raise DecompressError(f"damaged zstd data ({error})") from error
        if not inflater.eof:
            raise DecompressError(f"a zstd frame that does not end after {len(plain)} bytes")
        data = inflater.unused_data
    if len(plain) != cluster_size:
        raise DecompressError(f"zstd data that ends after {len(plain)} bytes")
    return plain


def zstd_module() -> Any:  # noqa: ANN401 - one of two modules with one face
    """compression.zstd of Python 3.14, or its backport; imported only where it is needed."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return importlib.import_module(name)
    except ImportError:
        feature = f"zstd-compressed clusters: there is no module {name}"
        raise UnsupportedFeatureError(feature, f"pip install {name}") from None
