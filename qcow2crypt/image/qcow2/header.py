"""The qcow2 header, versions 2 and 3: fields, limits and checks.  Pure layout, no I/O.

Source: the qcow2 document, "Header"; limits and the order of checks as QEMU has them.
What may be wrong is an error here (``HeaderError``).  What is right but not readable by this
package is not decided here: see ``structure.why_unreadable``.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from qcow2crypt.errors import HeaderError
from qcow2crypt.units import div_up

MAGIC = b"QFI\xfb"
CRYPT_NONE, CRYPT_AES, CRYPT_LUKS = 0, 1, 2
COMPRESSION_DEFLATE, COMPRESSION_ZSTD = 0, 1

INCOMPAT_DIRTY = 1 << 0
INCOMPAT_CORRUPT = 1 << 1
INCOMPAT_DATA_FILE = 1 << 2
INCOMPAT_COMPRESSION = 1 << 3
INCOMPAT_EXTENDED_L2 = 1 << 4
INCOMPAT_KNOWN = 0x1F
COMPAT_LAZY_REFCOUNTS = 1 << 0
AUTOCLEAR_BITMAPS = 1 << 0
AUTOCLEAR_RAW_DATA_FILE = 1 << 1

V2_LENGTH = 72
V3_LENGTH_MIN = 104
V3_LENGTH = 112
CLUSTER_BITS_MIN, CLUSTER_BITS_MAX = 9, 21
SUBCLUSTERS = 32
L1_BYTES_MAX = 32 << 20
REFCOUNT_TABLE_BYTES_MAX = 8 << 20
SNAPSHOTS_MAX = 65536
BACKING_NAME_MAX = 1023
_INT_MAX = 2**31 - 1
_OFFSET_MAX = 2**63 - 1

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_COMPRESSION_TYPE_AT = 104


class Header(NamedTuple):
    """The fixed fields, named as in the qcow2 document.  Offsets are host offsets in bytes.

    For version 2 the fields that it lacks have the values that it implies.
    """

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    refcount_order: int = 4
    header_length: int = V2_LENGTH
    compression_type: int = COMPRESSION_DEFLATE

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """True when L2 entries have 16 bytes and clusters have 32 subclusters."""
        return bool(self.incompatible_features & INCOMPAT_EXTENDED_L2)

    @property
    def l2_entries(self) -> int:
        """Entries in an L2 table, which fills exactly one cluster."""
        return self.cluster_size // (16 if self.extended_l2 else 8)

    @property
    def l2_coverage(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.cluster_size * self.l2_entries

    @property
    def guest_size(self) -> int:
        """Size of the guest disk: ``size`` rounded down to whole sectors, as QEMU does."""
        return self.size & ~511

    @property
    def refcount_bits(self) -> int:
        """Width of a refcount."""
        return 1 << self.refcount_order


def parse_header(data: bytes) -> Header:
    """Read and check the fixed fields from the first bytes of a file (112 are enough).

    Raises HeaderError: the first failing check, with field, offset, what was found and allowed.
    """
    if data[:4] != MAGIC:
        problem = "this is not a qcow2 image"
        raise _bad(problem, "magic", 0, data[:4].hex(" ") or "nothing", MAGIC.hex(" "))
    version = int.from_bytes(data[4:8], "big")
    if len(data) < 8 or version not in (2, 3):
        found = str(version) if len(data) >= 8 else "cut off by the end of the file"
        raise _bad("unsupported qcow2 version", "version", 4, found, "2 or 3")
    needed = V2_LENGTH if version == 2 else V3_LENGTH_MIN
    if len(data) < needed:
        problem = "the file ends inside its header"
        raise _bad(problem, "file size", None, f"{len(data)} bytes", f"at least {needed} bytes")
    # A header shorter than a field that it may have reads as zero there.
    header = _unpack(data.ljust(V3_LENGTH, b"\0"), version)
    for check in (_check_clusters, _check_features, _check_tables, _check_l1):
        check(header)
    return header


def _unpack(data: bytes, version: int) -> Header:
    values = _V2.unpack_from(data)[1:]
    if version == 3:
        values += _V3.unpack_from(data, V2_LENGTH)
        if values[-1] > _COMPRESSION_TYPE_AT:
            values += (data[_COMPRESSION_TYPE_AT],)
    return Header(*values)


def _check_clusters(header: Header) -> None:
    bits = header.cluster_bits
    if not CLUSTER_BITS_MIN <= bits <= CLUSTER_BITS_MAX:
        allowed = f"{CLUSTER_BITS_MIN} to {CLUSTER_BITS_MAX}"
        raise _bad("unsupported cluster size", "cluster_bits", 20, str(bits), allowed)
    size = header.cluster_size
    length = header.header_length
    if header.version == 3 and length < V3_LENGTH_MIN:
        allowed = f"{V3_LENGTH_MIN} to {size}"
        raise _bad("qcow2 header too short", "header_length", 100, str(length), allowed)
    if length > size:
        allowed = f"{V3_LENGTH_MIN} to {size}"
        raise _bad("qcow2 header exceeds cluster size", "header_length", 100, str(length), allowed)
    at = header.backing_file_offset
    if at > size:
        problem = "backing file name outside the first cluster"
        raise _bad(problem, "backing_file_offset", 8, hex(at), f"0 to {size:#x}")
    limit = min(BACKING_NAME_MAX, size - at)
    if at and header.backing_file_size > limit:
        found = str(header.backing_file_size)
        problem = "backing file name too long"
        raise _bad(problem, "backing_file_size", 16, found, f"0 to {limit}")


def _check_features(header: Header) -> None:
    kind = header.compression_type
    flagged = bool(header.incompatible_features & INCOMPAT_COMPRESSION)
    if kind not in (COMPRESSION_DEFLATE, COMPRESSION_ZSTD):
        problem, allowed = "unknown compression type", "0 (deflate) or 1 (zstd)"
        raise _bad(problem, "compression_type", _COMPRESSION_TYPE_AT, str(kind), allowed)
    if flagged != (kind != COMPRESSION_DEFLATE):
        state = "set" if flagged else "clear"
        problem = "compression type and its incompatible feature bit disagree"
        allowed = "set for zstd, clear for deflate"
        raise _bad(problem, "incompatible_features bit 3", 72, f"{state}, type {kind}", allowed)
    if header.extended_l2 and header.cluster_size < SUBCLUSTERS * 512:
        found = f"set with clusters of {header.cluster_size} bytes"
        problem, allowed = "unsupported subcluster size", "clusters of 16384 bytes or more"
        raise _bad(problem, "incompatible_features bit 4", 72, found, allowed)
    if header.refcount_order > 6:
        problem = "refcount width too large"
        raise _bad(problem, "refcount_order", 96, str(header.refcount_order), "0 to 6")
    if header.crypt_method > CRYPT_LUKS:
        problem, allowed = "unsupported encryption method", "0 (none), 1 (AES) or 2 (LUKS)"
        raise _bad(problem, "crypt_method", 32, str(header.crypt_method), allowed)
    raw_data = header.autoclear_features & AUTOCLEAR_RAW_DATA_FILE
    if raw_data and not header.incompatible_features & INCOMPAT_DATA_FILE:
        problem = "raw external data needs an external data file"
        raise _bad(problem, "autoclear_features bit 1", 88, "set", "clear without a data file")


def _check_tables(header: Header) -> None:
    size = header.cluster_size
    clusters = header.refcount_table_clusters
    limit = max(1, REFCOUNT_TABLE_BYTES_MAX // size)
    if not 1 <= clusters <= limit:
        problem = "no refcount table" if clusters == 0 else "refcount table too large"
        raise _bad(problem, "refcount_table_clusters", 56, str(clusters), f"1 to {limit}")
    length = clusters * size
    _check_offset(header.refcount_table_offset, "refcount_table_offset", 48, size, length)
    if header.nb_snapshots > SNAPSHOTS_MAX:
        found, allowed = str(header.nb_snapshots), f"0 to {SNAPSHOTS_MAX}"
        raise _bad("snapshot table too large", "nb_snapshots", 60, found, allowed)
    _check_offset(header.snapshots_offset, "snapshots_offset", 64, size, 0)


def _check_l1(header: Header) -> None:
    limit = L1_BYTES_MAX // 8
    if header.l1_size > limit:
        problem = "L1 table too large"
        raise _bad(problem, "l1_size", 36, str(header.l1_size), f"0 to {limit}")
    length = header.l1_size * 8
    _check_offset(header.l1_table_offset, "l1_table_offset", 40, header.cluster_size, length)
    needed = div_up(header.size, header.l2_coverage)
    if needed > _INT_MAX:
        allowed = f"0 to {_INT_MAX * header.l2_coverage}"
        raise _bad("the disk is too big", "size", 24, str(header.size), allowed)
    if header.l1_size < needed:
        problem = "L1 table too small for the disk"
        allowed = f"{needed} or more for a disk of {header.size} bytes"
        raise _bad(problem, "l1_size", 36, str(header.l1_size), allowed)


def _check_offset(offset: int, field: str, at: int, cluster_size: int, length: int) -> None:
    """Check where a table of ``length`` bytes begins and ends."""
    if offset + length > _OFFSET_MAX or offset % cluster_size:
        allowed = f"a multiple of the cluster size {cluster_size:#x}, the table's end below 2^63"
        raise _bad("table offset is not valid", field, at, hex(offset), allowed)


def _bad(problem: str, field: str, offset: int | None, found: str, allowed: str) -> HeaderError:
    return HeaderError(problem, field=field, offset=offset, found=found, allowed=allowed)


def pack_header(header: Header) -> bytes:
    """The header as bytes, ``header_length`` long.  The twin of ``parse_header``."""
    packed = _V2.pack(
        MAGIC,
        header.version,
        header.backing_file_offset,
        header.backing_file_size,
        header.cluster_bits,
        header.size,
        header.crypt_method,
        header.l1_size,
        header.l1_table_offset,
        header.refcount_table_offset,
        header.refcount_table_clusters,
        header.nb_snapshots,
        header.snapshots_offset,
    )
    if header.version == 2:
        return packed
    packed += _V3.pack(
        header.incompatible_features,
        header.compatible_features,
        header.autoclear_features,
        header.refcount_order,
        header.header_length,
    )
    if header.header_length > _COMPRESSION_TYPE_AT:
        packed += bytes((header.compression_type,))
    return packed.ljust(header.header_length, b"\0")
