"""The header cluster of a file that exists, written anew: fields, extensions, backing file name.

What this package does not know stays: extensions, and fields behind those of version 3.  The
order is QEMU's: backing format, data file, encryption, feature names, bitmaps, the rest; the name
of the backing file right behind.  One write, as in QEMU; it spans more than one sector, so a
crash in it may leave a torn header.  Source: the qcow2 document, "Header".
"""

from __future__ import annotations

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2 import header as hdr
from qcow2crypt.image.qcow2.fresh.header import FEATURE_NAMES, FEATURE_TABLE_ABOVE
from qcow2crypt.image.qcow2.structure import Structure

_ORDER = (
    ext.EXT_BACKING_FORMAT,
    ext.EXT_DATA_FILE,
    ext.EXT_CRYPTO_HEADER,
    ext.EXT_FEATURE_TABLE,
    ext.EXT_BITMAPS,
)
_FORMAT_MAX = 15


def write_backing(
    file: HostFile, structure: Structure, name: str | None, image_format: str | None
) -> None:
    """Let the header name another backing file; None or empty for none.

    Raises ArgumentError for names that are too long, TargetError.
    """
    write_header_cluster(file, structure, structure.header, name, image_format)


def write_version(file: HostFile, structure: Structure, header: hdr.Header) -> None:
    """Write the header anew with the fields of ``header``, which may be of the other version."""
    write_header_cluster(file, structure, header, structure.backing_file, structure.backing_format)


def write_data_file(
    file: HostFile, structure: Structure, name: str | None, *, raw: bool | None
) -> None:
    """Let the header name another external data file, and say whether it is a raw image.

    None leaves each as it is; an empty name takes it away.  Raises as ``write_backing``.
    """
    header, extensions = structure.header, structure.extensions
    if name is not None:
        extensions = tuple(one for one in extensions if one.type != ext.EXT_DATA_FILE)
        if name:
            data = name.encode("utf-8", "surrogateescape")
            extensions += (ext.Extension(ext.EXT_DATA_FILE, 0, data),)
    if raw is not None:
        features = header.autoclear_features & ~hdr.AUTOCLEAR_RAW_DATA_FILE
        features |= hdr.AUTOCLEAR_RAW_DATA_FILE if raw else 0
        header = header._replace(autoclear_features=features)
    write_version(file, structure._replace(extensions=extensions), header)


def write_header_cluster(
    file: HostFile,
    structure: Structure,
    header: hdr.Header,
    backing_file: str | None,
    backing_format: str | None,
    *,
    bitmaps: ext.BitmapsPointer | None = None,
) -> None:
    """All of the header cluster, with one write and a barrier behind it.

    ``bitmaps`` goes into the bitmaps extension, whether or not ``header`` says that it counts.
    """
    size = header.cluster_size
    extra = b""
    length = hdr.V2_LENGTH
    if header.version >= 3:
        old_length = structure.header.header_length
        extra = file.pread(max(0, old_length - hdr.V3_LENGTH), hdr.V3_LENGTH)
        length = hdr.V3_LENGTH + len(extra)
    name = (backing_file or "").encode("utf-8", "surrogateescape")
    extensions = _extensions(structure, header, backing_format if name else None, bitmaps)
    at = length + len(extensions)
    new = header._replace(
        header_length=length,
        backing_file_offset=at if name else 0,
        backing_file_size=len(name),
    )
    packed = hdr.pack_header(new)
    if extra:
        packed = packed[: hdr.V3_LENGTH] + extra
    packed += extensions + name
    if len(name) > hdr.BACKING_NAME_MAX or len(packed) > size:
        raise ArgumentError(
            f"the names of the backing file and the data file, {len(packed) - length} bytes with "
            f"what stands beside them, do not fit into the header cluster of '{file.name}'; "
            "use shorter ones"
        )
    file.pwrite(packed.ljust(size, b"\0"), 0)
    file.flush()


def _extensions(
    structure: Structure,
    header: hdr.Header,
    backing_format: str | None,
    bitmaps: ext.BitmapsPointer | None,
) -> bytes:
    data = {one.type: one.data for one in structure.extensions}
    data.pop(ext.EXT_BACKING_FORMAT, None)
    data.pop(ext.EXT_FEATURE_TABLE, None)
    if backing_format:
        data[ext.EXT_BACKING_FORMAT] = backing_format.encode("utf-8", "surrogateescape")
        if len(data[ext.EXT_BACKING_FORMAT]) > _FORMAT_MAX:
            raise ArgumentError(f"the name of a format has at most {_FORMAT_MAX} bytes")
    if header.version >= 3 and header.cluster_size > FEATURE_TABLE_ABOVE:
        data[ext.EXT_FEATURE_TABLE] = ext.pack_feature_table(FEATURE_NAMES)
    if not header.autoclear_features & hdr.AUTOCLEAR_BITMAPS:
        # Out of date: a program that knows no bitmaps has written since.
        data.pop(ext.EXT_BITMAPS, None)
    if bitmaps is not None:
        data[ext.EXT_BITMAPS] = ext.pack_bitmaps(bitmaps)
    known = [kind for kind in _ORDER if kind in data]
    rest = [kind for kind in data if kind not in _ORDER]
    packed = b"".join(ext.pack_extension(kind, data[kind]) for kind in known + rest)
    return packed + ext.pack_extension(ext.EXT_END, b"")
