"""How large would a new image be?  The numbers of ``qemu-img measure``, in bytes.

Counts clusters: pure arithmetic over a size, and over the extents of a source where there is one.
Encryption with AES changes nothing: ciphertext is as long as the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.tasks.creation import TargetFormat
from qcow2crypt.units import SECTOR_SIZE, align_up, div_up

SIZE_MAX = 2**63 - 1

_ENTRY_SIZE = 8
_EXTENDED_ENTRY_SIZE = 16
_L1_BYTES_MAX = 32 << 20
_BITMAP_ENTRY_SIZE = 24
"""A bitmap directory entry without its name."""


class Measurement(NamedTuple):
    """Sizes of a file in bytes.

    ``required``         enough for the data that there is now
    ``fully_allocated``  enough when the guest has written to all of its disk
    ``bitmaps``          to add where the bitmaps of the source are copied; None where the source
                         or the target cannot have any
    """

    required: int
    fully_allocated: int
    bitmaps: int | None = None


def measure(
    target_format: TargetFormat = "raw",
    *,
    size: int | None = None,
    source: Image | None = None,
    options: Qcow2Options | None = None,
) -> Measurement:
    """Measure a new image for an empty disk of ``size`` bytes, or for a copy of ``source``.

    ``options`` are those of a qcow2 target.  Raises ArgumentError, and what reading the tables of
    the source raises.
    """
    if (size is None) == (source is None):
        raise ArgumentError("either a size or a source is measured")
    guest_size = source.size if source is not None else size or 0
    if not 0 <= guest_size <= SIZE_MAX:
        raise ArgumentError(f"an image size is 0 to {SIZE_MAX} bytes, not {guest_size}")
    if target_format == "raw":
        if options is not None:
            raise ArgumentError("qcow2 options were given, but the target format is raw")
        whole = align_up(guest_size, SECTOR_SIZE)
        return Measurement(whole, whole)
    if target_format != "qcow2":
        raise ArgumentError(f"target format {target_format!r} is not one of raw, qcow2")
    return _measure_qcow2(guest_size, source, options or Qcow2Options())


def _measure_qcow2(guest_size: int, source: Image | None, options: Qcow2Options) -> Measurement:
    disk = align_up(guest_size, options.cluster_size)
    metadata = _metadata_size(disk, options)
    if options.preallocation in ("falloc", "full"):
        data = disk
    elif source is None:
        data = 0
    elif options.backing_file is not None:
        data = disk  # how much of it the backing file has is not known
    else:
        data = _touched_size(source.extents(), options.cluster_size)
    bitmaps = None
    if options.version == 3 and source is not None and source.format == "qcow2":
        bitmaps = _bitmaps_size(source, options.cluster_size)
    return Measurement(metadata + data, metadata + disk, bitmaps)


def _metadata_size(disk: int, options: Qcow2Options) -> int:
    """Header, L1 table, all L2 tables, and refcounts for them and for a full disk."""
    cluster_size = options.cluster_size
    entry_size = _EXTENDED_ENTRY_SIZE if options.extended_l2 else _ENTRY_SIZE
    data_clusters = disk // cluster_size
    l2_tables = div_up(data_clusters * entry_size, cluster_size)
    if l2_tables * _ENTRY_SIZE > _L1_BYTES_MAX:
        raise ArgumentError(
            f"a disk of {disk} bytes is too large for clusters of {cluster_size} bytes; "
            "choose larger clusters"
        )
    tables = 1 + div_up(l2_tables * _ENTRY_SIZE, cluster_size) + l2_tables
    refcounts = _refcount_clusters(tables + data_clusters, options)
    return (tables + refcounts) * cluster_size


def _refcount_clusters(used: int, options: Qcow2Options) -> int:
    """Clusters of refcount blocks and of their table, which count themselves too."""
    counts_per_block = options.cluster_size * 8 // options.refcount_bits
    blocks_per_cluster = options.cluster_size // _ENTRY_SIZE
    blocks = table = 0
    while True:
        needed = div_up(used + blocks + table, counts_per_block)
        if needed == blocks:
            return blocks + table
        blocks = needed
        table = div_up(blocks, blocks_per_cluster)


def _touched_size(extents: Iterable[Extent], cluster_size: int) -> int:
    """Bytes of all clusters of the new image that at least one byte of data falls into."""
    clusters = counted_up_to = 0
    for extent in extents:
        if extent.reads_as_zero:
            continue
        first = max(extent.guest_offset // cluster_size, counted_up_to)
        end = div_up(extent.guest_offset + extent.length, cluster_size)
        clusters += max(0, end - first)
        counted_up_to = max(counted_up_to, end)
    return clusters * cluster_size


def _bitmaps_size(source: Image, cluster_size: int) -> int | None:
    """Every bitmap in full, its table, and the directory; None for a version without bitmaps."""
    specific = source.info().specific
    if specific["compat"] == "0.10":
        return None
    size = directory = 0
    for bitmap in specific.get("bitmaps", ()):
        bits = div_up(source.size, bitmap["granularity"])
        clusters = div_up(div_up(bits, 8), cluster_size)
        size += clusters * cluster_size + align_up(clusters * _ENTRY_SIZE, cluster_size)
        name = bitmap["name"].encode("utf-8", "surrogateescape")
        directory += align_up(_BITMAP_ENTRY_SIZE + len(name), 8)
    return size + align_up(directory, cluster_size)
