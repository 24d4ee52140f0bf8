"""All metadata of a qcow2 file that stands before the tables: header, extensions, names.

Reads the header cluster and takes it apart with the pure layouts.  Needs no passphrase, so an
image that cannot be read can still be described.
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.errors import HeaderError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import extensions as ext
from qcow2crypt.image.qcow2.header import (
    AUTOCLEAR_BITMAPS,
    CRYPT_LUKS,
    INCOMPAT_KNOWN,
    V3_LENGTH,
    Header,
    parse_header,
)

_KIND_INCOMPATIBLE = 0


class Structure(NamedTuple):
    """What the first cluster says."""

    header: Header
    extensions: tuple[ext.Extension, ...]
    backing_file: str | None
    backing_format: str | None
    data_file: str | None
    feature_names: tuple[ext.FeatureName, ...]
    bitmaps: ext.BitmapsPointer | None
    crypto: ext.CryptoPointer | None

    def why_unreadable(self) -> tuple[str, ...]:
        """Every reason why the guest disk cannot be read by this package; empty if it can."""
        header = self.header
        reasons = []
        if header.incompatible_features & ~INCOMPAT_KNOWN:
            reasons.append(f"unknown incompatible features: {', '.join(self.unknown_features())}")
        if header.crypt_method == CRYPT_LUKS:
            reasons.append("LUKS encryption")
        return tuple(reasons)

    def unknown_features(self) -> tuple[str, ...]:
        """Names of the unknown incompatible bits, from the feature name table if it has them."""
        names = {row.bit: row.name for row in self.feature_names if row.kind == _KIND_INCOMPATIBLE}
        bits = self.header.incompatible_features & ~INCOMPAT_KNOWN
        unknown = [bit for bit in range(64) if bits >> bit & 1]
        return tuple(
            f"bit {bit} '{names[bit]}'" if names.get(bit) else f"bit {bit}" for bit in unknown
        )


def read_structure(file: HostFile) -> Structure:
    """Read and check the header cluster.  Raises HeaderError, SourceError."""
    header = parse_header(file.pread(min(V3_LENGTH, file.size), 0))
    area = file.pread(header.cluster_size, 0)
    end = header.backing_file_offset or header.cluster_size
    extensions = ext.split_extensions(area, header.header_length, end)
    by_type = {extension.type: extension for extension in extensions}
    names = by_type.get(ext.EXT_FEATURE_TABLE)
    backing_format = by_type.get(ext.EXT_BACKING_FORMAT)
    data_file = by_type.get(ext.EXT_DATA_FILE)
    bitmaps = by_type.get(ext.EXT_BITMAPS)
    return Structure(
        header=header,
        extensions=extensions,
        backing_file=_backing_file(header, area),
        backing_format=ext.parse_backing_format(backing_format) if backing_format else None,
        data_file=_text(data_file.data) if data_file else None,
        feature_names=ext.parse_feature_table(names) if names else (),
        bitmaps=_bitmaps_pointer(header, bitmaps) if bitmaps else None,
        crypto=_crypto_pointer(header, by_type.get(ext.EXT_CRYPTO_HEADER)),
    )


def _backing_file(header: Header, area: bytes) -> str | None:
    start = header.backing_file_offset
    if not start:
        return None
    # Its size was checked against the cluster; QEMU reads the name as a C string, and an image
    # with an empty name has no backing file.
    return _text(area[start : start + header.backing_file_size].split(b"\0", 1)[0]) or None


def _bitmaps_pointer(header: Header, extension: ext.Extension) -> ext.BitmapsPointer | None:
    if header.autoclear_features & AUTOCLEAR_BITMAPS:
        return ext.parse_bitmaps(extension, header.cluster_size)
    # A program that knows no bitmaps has written since: what the extension says is out of date.
    ext.check_bitmaps_length(extension)
    return None


def _crypto_pointer(header: Header, extension: ext.Extension | None) -> ext.CryptoPointer | None:
    if extension is None:
        return None
    if header.crypt_method != CRYPT_LUKS:
        raise HeaderError(
            "an encryption header is expected with LUKS only",
            field="type of the full disk encryption header pointer",
            offset=extension.offset,
            found=f"present with crypt_method {header.crypt_method}",
            allowed="absent unless crypt_method is 2 (LUKS)",
        )
    return ext.parse_crypto_pointer(extension, header.cluster_size)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
