"""What stands before the tables of a qcow version 1 file: the header and one name.

Needs no passphrase, so an image that cannot be read can still be described.
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow1.header import HEADER_SIZE, Qcow1Header, parse_qcow1


class Qcow1Structure(NamedTuple):
    """The header, and the name of the backing file.  The format of that file is not stored."""

    header: Qcow1Header
    backing_file: str | None


def read_qcow1_structure(file: HostFile) -> Qcow1Structure:
    """Read and check the header.  Raises HeaderError, SourceError."""
    header = parse_qcow1(file.pread(min(HEADER_SIZE, file.size), 0))
    name = None
    if header.backing_file_offset:
        # A C string; an empty one is no backing file.
        stored = file.pread(header.backing_file_size, header.backing_file_offset)
        name = stored.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") or None
    return Qcow1Structure(header, name)
