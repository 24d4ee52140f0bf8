"""The first cluster of a new qcow2 file, byte for byte as qemu-img writes it.

Pure layout: options and places in, one cluster out.  Source: the qcow2 document, "Header" and
"Header extensions"; the order of the extensions is QEMU's.
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.options import Qcow2Options

FEATURE_TABLE_ABOVE = 4096
"""Clusters larger than this have room for the feature name table."""

FEATURE_NAMES = (
    ext.FeatureName(0, 0, "dirty bit"),
    ext.FeatureName(0, 1, "corrupt bit"),
    ext.FeatureName(0, 2, "external data file"),
    ext.FeatureName(0, 3, "compression type"),
    ext.FeatureName(0, 4, "extended L2 entries"),
    ext.FeatureName(1, 0, "lazy refcounts"),
    ext.FeatureName(2, 0, "bitmaps"),
    ext.FeatureName(2, 1, "raw external data"),
)


class Places(NamedTuple):
    """Where the tables lie: host offsets; the L1 table in entries, the other in clusters.

    ``bitmaps``: where their directory lies, if there are any.
    """

    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    bitmaps: ext.BitmapsPointer | None = None


def fresh_header(options: Qcow2Options, size: int, places: Places) -> bytes:
    """The header cluster of an image of ``size`` guest bytes.

    Raises ArgumentError when the names of other files do not fit.
    """
    extensions = _extensions(options, places.bitmaps)
    length = hdr.V3_LENGTH if options.version == 3 else hdr.V2_LENGTH
    backing = _name(options.backing_file) if options.backing_file is not None else b""
    at = length + len(extensions)
    fixed = hdr.Header(
        version=options.version,
        backing_file_offset=at if backing else 0,
        backing_file_size=len(backing),
        cluster_bits=options.cluster_bits,
        size=size,
        crypt_method=hdr.CRYPT_AES if options.encryption else hdr.CRYPT_NONE,
        l1_size=places.l1_size,
        l1_table_offset=places.l1_table_offset,
        refcount_table_offset=places.refcount_table_offset,
        refcount_table_clusters=places.refcount_table_clusters,
        nb_snapshots=0,
        snapshots_offset=0,
        incompatible_features=_incompatible(options),
        compatible_features=hdr.COMPAT_LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        autoclear_features=_autoclear(options, places),
        refcount_order=options.refcount_order,
        header_length=length,
        compression_type=(
            hdr.COMPRESSION_ZSTD if options.compression_type == "zstd" else hdr.COMPRESSION_DEFLATE
        ),
    )
    packed = hdr.pack_header(fixed) + extensions + backing
    if len(packed) > options.cluster_size:
        raise ArgumentError(
            f"the names of the backing file and the data file do not fit into the first cluster: "
            f"header and names take {len(packed)} bytes of {options.cluster_size}; "
            "use shorter names or larger clusters"
        )
    return packed.ljust(options.cluster_size, b"\0")


def _incompatible(options: Qcow2Options) -> int:
    features = 0
    if options.data_file is not None:
        features |= hdr.INCOMPAT_DATA_FILE
    if options.compression_type == "zstd":
        features |= hdr.INCOMPAT_COMPRESSION
    if options.extended_l2:
        features |= hdr.INCOMPAT_EXTENDED_L2
    return features


def _autoclear(options: Qcow2Options, places: Places) -> int:
    features = hdr.AUTOCLEAR_RAW_DATA_FILE if options.data_file_raw else 0
    return features | (hdr.AUTOCLEAR_BITMAPS if places.bitmaps is not None else 0)


def _extensions(options: Qcow2Options, bitmaps: ext.BitmapsPointer | None) -> bytes:
    packed = b""
    if options.backing_format is not None:
        packed += ext.pack_extension(ext.EXT_BACKING_FORMAT, _name(options.backing_format))
    if options.data_file is not None:
        packed += ext.pack_extension(ext.EXT_DATA_FILE, _name(options.data_file))
    if options.version == 3 and options.cluster_size > FEATURE_TABLE_ABOVE:
        names = ext.pack_feature_table(FEATURE_NAMES)
        packed += ext.pack_extension(ext.EXT_FEATURE_TABLE, names)
    if bitmaps is not None:
        packed += ext.pack_extension(ext.EXT_BITMAPS, ext.pack_bitmaps(bitmaps))
    return packed + ext.pack_extension(ext.EXT_END, b"")


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
