"""May this qcow2 file be written to?  What must be so before the first change.

Source: the qcow2 document, "Header": the dirty and the corrupt bit.
"""

from __future__ import annotations

from qcow2crypt.errors import ReadOnlyError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.check.rebuild import repair_dirty
from qcow2crypt.image.qcow2.structure import Structure, read_structure


def editable(file: HostFile, structure: Structure | None = None) -> Structure:
    """What stands in the header cluster of an image that may be written; else ReadOnlyError.

    An image whose dirty bit is set is repaired.
    """
    structure = structure or read_structure(file)
    features = structure.header.incompatible_features
    if not file.writable:
        raise ReadOnlyError(f"'{file.name}' is open for reading only")
    if features & hdr.INCOMPAT_CORRUPT:
        raise ReadOnlyError(f"'{file.name}' is marked as corrupt: repair it with check first")
    if not features & hdr.INCOMPAT_DIRTY:
        return structure
    repair_dirty(file)
    return read_structure(file)
