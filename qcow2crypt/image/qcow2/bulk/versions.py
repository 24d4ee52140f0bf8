"""From version 2 to 3 and back, and another refcount width: what the header cannot just say.

Version 2 has no zero flag, no feature bits and refcounts of 16 bits.  Another width is a whole new
set of refcounts, which one header write makes the true one.  The file must be at rest.

Knows tables, counts and the header; never sees keys or guest bytes.  Source: the qcow2 document.
"""

from __future__ import annotations

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.bulk.headercluster import write_version
from qcow2crypt.image.qcow2.bulk.snapshottable import read_rows
from qcow2crypt.image.qcow2.bulk.switch import Switch, read_refcounts, write_header
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, FLAG_COMPRESSED, FLAG_ZERO, OFFSET_MASK
from qcow2crypt.image.qcow2.snapshots import check_l1
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import read_l1, read_table

_V2_REFCOUNT_ORDER = 4
_EXTRA_OF_V3 = 16
_EXTRA_AT = 36


def upgrade(file: HostFile, structure: Structure) -> None:
    """Make the image one of version 3.  Raises ArgumentError, UnsupportedFeatureError."""
    header = structure.header
    if header.version >= 3:
        return
    for row in read_rows(file, header):
        if int.from_bytes(row.entry[_EXTRA_AT : _EXTRA_AT + 4], "big") < _EXTRA_OF_V3:
            raise UnsupportedFeatureError(
                f"version 3 with snapshot {row.snapshot.id}, which does not say its disk size",
                "delete the snapshot",
            )
    write_version(file, structure, header._replace(version=3, header_length=hdr.V3_LENGTH))


def check_downgrade(file: HostFile, structure: Structure, refcount_bits: int) -> None:
    """Refuse what version 2 cannot be: ArgumentError, UnsupportedFeatureError, HeaderError."""
    header = structure.header
    if refcount_bits != 1 << _V2_REFCOUNT_ORDER:
        raise ArgumentError(
            f"version 2 has refcounts of 16 bits, not {refcount_bits}; change them at the same time"
        )
    features = header.incompatible_features & ~hdr.INCOMPAT_DIRTY
    names = (
        (hdr.INCOMPAT_DATA_FILE, "an external data file"),
        (hdr.INCOMPAT_COMPRESSION, "another compression type than zlib"),
        (hdr.INCOMPAT_EXTENDED_L2, "extended L2 entries"),
    )
    for bit, name in names:
        if features & bit:
            raise ArgumentError(
                f"version 2 cannot have {name}; convert makes an image of version 2 without it "
                "('qcow2crypt convert -o compat=0.10')"
            )
    if structure.bitmaps is not None:
        raise UnsupportedFeatureError(
            "version 2 with bitmaps", "remove them first, with 'qemu-img bitmap --remove'"
        )
    seen: set[int] = set()
    for row in read_rows(file, header):
        snapshot = row.snapshot
        check_l1(file, header, snapshot)
        for entry in read_l1(file, snapshot.l1_table_offset, snapshot.l1_size):
            offset = entry & OFFSET_MASK
            if offset and offset not in seen and offset < file.size:
                seen.add(offset)
                table = read_table(file, offset, header.cluster_size // ENTRY_SIZE)
                if any(one & FLAG_ZERO and not one & FLAG_COMPRESSED for one in table):
                    raise UnsupportedFeatureError(
                        f"version 2 with snapshot {snapshot.id} '{snapshot.name}', which has "
                        "clusters marked as zero",
                        "delete the snapshot, or convert the image",
                    )


def downgrade(file: HostFile, structure: Structure) -> None:
    """Make the image one of version 2.  Its tables have no zero flag any more."""
    header = structure.header._replace(
        version=2,
        header_length=hdr.V2_LENGTH,
        incompatible_features=0,
        compatible_features=0,
        autoclear_features=0,
    )
    write_version(file, structure, header)


def set_lazy_refcounts(file: HostFile, structure: Structure, *, lazy: bool) -> None:
    """Change the compatible feature bit."""
    features = structure.header.compatible_features & ~hdr.COMPAT_LAZY_REFCOUNTS
    features |= hdr.COMPAT_LAZY_REFCOUNTS if lazy else 0
    write_header(file, structure.header._replace(compatible_features=features))


def set_refcount_order(file: HostFile, structure: Structure, order: int) -> None:
    """Write all refcounts anew with another width.

    Raises TargetError when a count does not fit, and nothing has changed.
    """
    header = structure.header
    if order == header.refcount_order:
        return
    old = read_refcounts(file, header)
    wanted = Switch.of(file, header).wanted
    switch = Switch(file, header._replace(refcount_order=order), (old,), wanted)
    switch.refuse_overflow()
    switch.commit()
