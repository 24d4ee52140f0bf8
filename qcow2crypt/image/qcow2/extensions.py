"""Header extensions of qcow2: typed pieces between the header and the end of its cluster.

Pure layout, no I/O.  Source: the qcow2 document, "Header extensions"; limits as QEMU has them.
Each is a type (be32), a length (be32), that many bytes, and zeros up to a multiple of 8.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from qcow2crypt.errors import HeaderError
from qcow2crypt.units import align_up

EXT_END = 0x00000000
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_TABLE = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_CRYPTO_HEADER = 0x0537BE77
EXT_DATA_FILE = 0x44415441

EXT_NAMES = {
    EXT_BACKING_FORMAT: "backing format",
    EXT_FEATURE_TABLE: "feature name table",
    EXT_BITMAPS: "bitmaps",
    EXT_CRYPTO_HEADER: "full disk encryption header pointer",
    EXT_DATA_FILE: "external data file name",
}

_HEAD = struct.Struct(">II")
_FEATURE_ENTRY = 48
_BACKING_FORMAT_LIMIT = 15
_BITMAPS = struct.Struct(">IIQQ")
_BITMAPS_MAX = 65535
_BITMAP_ENTRY_MAX = 1024
_CRYPTO = struct.Struct(">QQ")


class Extension(NamedTuple):
    """One extension as it stands in the file.  ``offset`` is that of its type field."""

    type: int
    offset: int
    data: bytes

    @property
    def name(self) -> str:
        """What the qcow2 document calls it, or ``unknown``."""
        return EXT_NAMES.get(self.type, "unknown")

    @property
    def length_offset(self) -> int:
        """Host offset of the length field."""
        return self.offset + 4

    @property
    def data_offset(self) -> int:
        """Host offset of the first data byte."""
        return self.offset + 8


class FeatureName(NamedTuple):
    """One row of the feature name table.  ``kind``: 0 incompatible, 1 compatible, 2 autoclear."""

    kind: int
    bit: int
    name: str


class BitmapsPointer(NamedTuple):
    """Where the directory of dirty bitmaps lies."""

    nb_bitmaps: int
    directory_size: int
    directory_offset: int


class CryptoPointer(NamedTuple):
    """Where the LUKS header lies: host offset and length in bytes."""

    offset: int
    length: int


def split_extensions(area: bytes, start: int, end: int) -> tuple[Extension, ...]:
    """The extensions from ``start`` to the end marker, or to ``end``.

    ``area`` is the file from its first byte on.  Raises HeaderError for a length that runs out
    of the area.  Unknown types are kept.
    """
    found = []
    offset = start
    while offset < end:
        room = end - offset - _HEAD.size
        if room < 0:
            raise HeaderError(
                "header extension too large",
                field="header extension type and length",
                offset=offset,
                found=f"{end - offset} bytes before the end of the header area",
                allowed="8 bytes, or an end marker before",
            )
        kind, length = _HEAD.unpack_from(area, offset)
        if length > room:
            raise HeaderError(
                "header extension too large",
                field=f"length of header extension {kind:#010x}",
                offset=offset + 4,
                found=str(length),
                allowed=f"0 to {room}",
            )
        if kind == EXT_END:
            break
        data = area[offset + _HEAD.size : offset + _HEAD.size + length]
        found.append(Extension(kind, offset, data))
        offset += _HEAD.size + align_up(length, 8)
    return tuple(found)


def parse_feature_table(extension: Extension) -> tuple[FeatureName, ...]:
    """The names of the feature bits.  A ragged tail is ignored, as QEMU does."""
    data = extension.data
    rows = []
    for at in range(0, len(data) - _FEATURE_ENTRY + 1, _FEATURE_ENTRY):
        name = data[at + 2 : at + _FEATURE_ENTRY].split(b"\0", 1)[0]
        rows.append(FeatureName(data[at], data[at + 1], name.decode("ascii", "backslashreplace")))
    return tuple(rows)


def parse_backing_format(extension: Extension) -> str:
    """The format name of the backing file.  Raises HeaderError when it is too long."""
    if len(extension.data) > _BACKING_FORMAT_LIMIT:
        raise HeaderError(
            "backing format name too long",
            field="length of the backing format extension",
            offset=extension.length_offset,
            found=str(len(extension.data)),
            allowed=f"0 to {_BACKING_FORMAT_LIMIT}",
        )
    return extension.data.decode("utf-8", "backslashreplace")


def parse_bitmaps(extension: Extension, cluster_size: int) -> BitmapsPointer:
    """The pointer to the bitmap directory.  Raises HeaderError."""
    check_bitmaps_length(extension)
    count, reserved, size, offset = _BITMAPS.unpack(extension.data)
    at = extension.data_offset
    if not 1 <= count <= _BITMAPS_MAX:
        raise _bad(extension, "number of bitmaps", at, str(count), f"1 to {_BITMAPS_MAX}")
    if reserved:
        raise _bad(extension, "reserved field", at + 4, hex(reserved), "0")
    limit = _BITMAP_ENTRY_MAX * _BITMAPS_MAX
    if size > limit:
        raise _bad(extension, "directory size", at + 8, str(size), f"0 to {limit}")
    if offset % cluster_size:
        allowed = f"a multiple of {cluster_size:#x}"
        raise _bad(extension, "directory offset", at + 16, hex(offset), allowed)
    return BitmapsPointer(count, size, offset)


def pack_bitmaps(pointer: BitmapsPointer) -> bytes:
    """The data of a bitmaps extension; the twin of ``parse_bitmaps``."""
    return _BITMAPS.pack(pointer.nb_bitmaps, 0, pointer.directory_size, pointer.directory_offset)


def check_bitmaps_length(extension: Extension) -> None:
    """All that is checked of a bitmaps extension that is out of date.  Raises HeaderError."""
    _check_length(extension, _BITMAPS.size)


def parse_crypto_pointer(extension: Extension, cluster_size: int) -> CryptoPointer:
    """The pointer to the LUKS header.  Raises HeaderError."""
    _check_length(extension, _CRYPTO.size)
    offset, length = _CRYPTO.unpack(extension.data)
    if offset % cluster_size:
        at, allowed = extension.data_offset, f"a multiple of {cluster_size:#x}"
        raise _bad(extension, "host offset", at, hex(offset), allowed)
    return CryptoPointer(offset, length)


def pack_extension(kind: int, data: bytes) -> bytes:
    """One extension as bytes, padded to a multiple of 8.  The twin of ``split_extensions``."""
    return _HEAD.pack(kind, len(data)) + data.ljust(align_up(len(data), 8), b"\0")


def pack_feature_table(names: tuple[FeatureName, ...]) -> bytes:
    """The data of a feature name table."""
    rows = (bytes((row.kind, row.bit)) + row.name.encode("ascii").ljust(46, b"\0") for row in names)
    return b"".join(rows)


def _check_length(extension: Extension, length: int) -> None:
    if len(extension.data) != length:
        raise HeaderError(
            f"the {extension.name} extension has the wrong size",
            field=f"length of the {extension.name} extension",
            offset=extension.length_offset,
            found=str(len(extension.data)),
            allowed=str(length),
        )


def _bad(extension: Extension, field: str, offset: int, found: str, allowed: str) -> HeaderError:
    problem = f"the {extension.name} extension is not valid"
    return HeaderError(
        problem, field=f"{extension.name}: {field}", offset=offset, found=found, allowed=allowed
    )
