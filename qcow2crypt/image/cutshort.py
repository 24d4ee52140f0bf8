"""Is a file cut short, and which guest data is missing?

Such an image opens and reads, as with QEMU: what the file does not hold reads as zeros, and as
noise where it is encrypted.  Its owner wants to hear of it.  Knows extents and lengths of files.
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.qcow2.remarks import looks_cut_short
from qcow2crypt.units import GuestOffset, align_up


class Missing(NamedTuple):
    """The file ``name`` has ``size`` bytes, and the data at ``guest_offset`` lies behind them."""

    name: str
    size: int
    guest_offset: GuestOffset


def first_missing(image: Image) -> Missing | None:
    """The first cluster of the disk that lies behind the end of its file, or None.

    A glance at the last tables comes first, so a whole image costs milliseconds; an image that
    misses tables only, or a cluster that few tables know of, may pass.  Raises what ``extents``
    raises.
    """
    layers = [image]
    while (below := layers[-1].backing) is not None:
        layers.append(below)
    cut = {depth: layer for depth, layer in enumerate(layers) if _is_cut(layer)}
    if not cut:
        return None
    for found in cut.values():
        if isinstance(found, Qcow2Image) and _has_no_tables(found):
            return Missing(found.name, found.host_file.size, GuestOffset(0))
    for extent in image.extents():
        layer, host = cut.get(extent.depth), extent.host_offset
        if not isinstance(layer, Qcow2Image) or host is None or extent.reads_as_zero:
            continue
        size = layer.host_file.size
        inside = align_up(size, layer.structure.header.cluster_size) - host
        if inside <= 0 or (inside < extent.length and extent.kind is ExtentKind.DATA):
            at = GuestOffset(extent.guest_offset + max(inside, 0))
            return Missing(layer.name, size, at)
    return None


def _has_no_tables(layer: Qcow2Image) -> bool:
    """Whether the table of all tables lies behind the end: then nothing is known of the disk."""
    header = layer.structure.header
    return header.l1_size > 0 and header.l1_table_offset >= layer.host_file.size


def _is_cut(layer: Image) -> bool:
    if not isinstance(layer, Qcow2Image):
        return False
    header = layer.structure.header
    # How long a data file has to be nobody says: it may be sparse at its end.
    external = bool(header.incompatible_features & INCOMPAT_DATA_FILE)
    return not external and looks_cut_short(layer.host_file, header, external_data=False)
