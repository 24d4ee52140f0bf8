"""Add bitmaps to an image that exists, beside those that it has.

Bits, tables and a new directory go to free clusters; they and their refcounts are on the disk
before the header names them, and the old directory is let go after that.  So a crash leaves the
old bitmaps or the new ones, and clusters that nobody uses at worst.  Two exceptions: the name of a
backing file moves to make room for the first bitmap (see ``headercluster`` on torn writes), and an
extension that lies across sectors is out of date, and with it the old bitmaps, while it changes.
The file must be at rest.

Knows tables and counts; never keys or guest bytes.  Source: the qcow2 document, "Bitmaps".
"""

from __future__ import annotations

from collections.abc import Sequence

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2.bitmaps import StoredBitmap, bitmap_entries, store_bitmaps
from qcow2crypt.image.qcow2.bulk.headercluster import write_header_cluster
from qcow2crypt.image.qcow2.bulk.switch import write_header
from qcow2crypt.image.qcow2.edit.metadata import Metadata
from qcow2crypt.image.qcow2.header import AUTOCLEAR_BITMAPS
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.image.qcow2.tables import TableCache, read_l1
from qcow2crypt.units import SECTOR_SIZE, div_up


def add_bitmaps(file: HostFile, structure: Structure, bitmaps: Sequence[StoredBitmap]) -> None:
    """Copy bitmaps of a disk of the same size into the image.

    Raises ArgumentError for a name that is there already and for version 2, TargetError,
    FormatError.
    """
    header = structure.header
    old = structure.bitmaps
    present = bitmap_entries(file, structure)
    check_names(file.name, present_names=[one.name for one in present], bitmaps=bitmaps)
    if header.version < 3:
        raise ArgumentError("an image of version 2 cannot have bitmaps")
    if not bitmaps:
        return
    l1 = read_l1(file, header.l1_table_offset, header.l1_size)
    meta = Metadata(file, header, l1, TableCache(file, header.cluster_size), None)
    pointer = store_bitmaps(
        bitmaps, header.cluster_size, meta.refcounts.allocate, file.pwrite, present=present
    )
    meta.commit()
    _point(file, structure._replace(header=meta.header), pointer)
    meta.header = read_structure(file).header
    if old is not None:
        first = old.directory_offset >> header.cluster_bits
        meta.refcounts.release(first, div_up(old.directory_size, header.cluster_size))
    meta.close()


def _point(file: HostFile, structure: Structure, pointer: ext.BitmapsPointer) -> None:
    """Let the header name the new directory.

    Where it names one already, that is one write inside a sector.  Else the extension is written
    first, and the bit that makes it count after a barrier: a torn extension is never believed.
    """
    header, data = structure.header, ext.pack_bitmaps(pointer)
    for present in structure.extensions:
        place = present.data_offset
        fits = place // SECTOR_SIZE == (place + len(data) - 1) // SECTOR_SIZE
        if present.type == ext.EXT_BITMAPS and structure.bitmaps is not None and fits:
            file.pwrite(data, place)
            file.flush()
            return
    features = header.autoclear_features & ~AUTOCLEAR_BITMAPS
    write_header_cluster(
        file,
        structure,
        header._replace(autoclear_features=features),
        structure.backing_file,
        structure.backing_format,
        bitmaps=pointer,
    )
    header = read_structure(file).header
    write_header(file, header._replace(autoclear_features=features | AUTOCLEAR_BITMAPS))


def check_names(
    image: str, *, present_names: Sequence[bytes], bitmaps: Sequence[StoredBitmap]
) -> None:
    """Refuse, with ArgumentError, bitmaps with names that the image has already."""
    for bitmap in bitmaps:
        if bitmap.entry.name in present_names:
            raise ArgumentError(
                f"'{image}' has a bitmap '{bitmap.entry.shown}' already: remove it there "
                "('qemu-img bitmap --remove'), or leave the bitmaps out"
            )
