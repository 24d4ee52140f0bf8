"""A slow, straightforward reader of raw, qcow and qcow2 images, to hold fast ones against.

It shares no code with ``qcow2crypt.image``: it reads whole files into memory, looks up one cluster
at a time, and takes its AES from the textbook ``qcow2crypt.reference``.  Only sound images are for
it; of a damaged one it may say anything.
Follows the qcow2 document (docs/interop/qcow2 of QEMU), and for qcow what QEMU writes.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.errors import UnsupportedFeatureError
from qcow2crypt.reference import decrypt_sectors, passphrase_to_key

_SECTOR = 512
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_COPIED = 1 << 63


def be(data: bytes, offset: int, length: int = 8) -> int:
    """A big-endian number; what lies behind the end of the file is zeros."""
    return int.from_bytes(data[offset : offset + length].ljust(length, b"\0"), "big")


class Table(NamedTuple):
    """One L1 table with the disk that it is for."""

    offset: int
    length: int
    size: int


class Layer:
    """One image file, and what is under it.

    ``passphrases`` go by depth, 0 being this image.  ``file`` is its content, where that is not
    what lies under ``path``.
    """

    def __init__(
        self,
        path: Path,
        form: str,
        passphrases: Mapping[int, str | bytes],
        file: bytes | None = None,
    ) -> None:
        self.path = path
        self.form = form
        self.file = path.read_bytes() if file is None else file
        self.data = self.file
        self.below: Layer | None = None
        self.key = passphrase_to_key(passphrases[0]) if 0 in passphrases else None
        self.size = len(self.file)
        self.table = Table(0, 0, self.size)
        if form == "raw":
            return
        self._read_header()
        name = self._text(be(self.file, 8), be(self.file, 16, 4))
        if name:
            deeper = {depth - 1: secret for depth, secret in passphrases.items() if depth}
            self.below = Layer(path.parent / name, self._format_below(path.parent / name), deeper)

    def _read_header(self) -> None:
        file = self.file
        version = be(file, 4, 4)
        if version == 1:
            self.size, self.cluster_bits, self.l2_bits = be(file, 24), file[32], file[33]
            self.encrypted = bool(be(file, 36, 4))
            self.extended = False
            self.table = Table(be(file, 40), 1 << 30, self.size)
            return
        self.cluster_bits, self.size = be(file, 20, 4), be(file, 24)
        self.encrypted = bool(be(file, 32, 4))
        self.table = Table(be(file, 40), be(file, 36, 4), self.size)
        features = be(file, 72) if version == 3 else 0
        self.extended = bool(features & 16)
        self.l2_bits = self.cluster_bits - (4 if self.extended else 3)
        self.zstd = version == 3 and be(file, 100, 4) > 104 and file[104] == 1
        self.extensions = self._extensions(be(file, 100, 4) if version == 3 else 72)
        if features & 4:
            name = self.extensions[0x44415441].decode()
            self.data = (self.path.parent / name).read_bytes()

    def _extensions(self, at: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        while (kind := be(self.file, at, 4)) != 0:
            length = be(self.file, at + 4, 4)
            found[kind] = self.file[at + 8 : at + 8 + length]
            at += 8 + -(-length // 8) * 8
        return found

    def _text(self, offset: int, length: int) -> str:
        return os.fsdecode(self.file[offset : offset + length])

    def _format_below(self, path: Path) -> str:
        if self.form == "qcow2" and (name := self.extensions.get(0xE2792ACA)):
            return name.decode()
        start = path.read_bytes()[:8]
        return {b"QFI\xfb\0\0\0\x01": "qcow"}.get(start, "qcow2" if start[:3] == b"QFI" else "raw")

    def snapshots(self) -> dict[str, Table]:
        """The L1 tables of the snapshots, by name."""
        at = be(self.file, 64)
        found: dict[str, Table] = {}
        for _ in range(be(self.file, 60, 4)):
            id_length, name_length = be(self.file, at + 12, 2), be(self.file, at + 14, 2)
            extra = be(self.file, at + 36, 4)
            size = be(self.file, at + 48) if extra >= 16 else self.size
            text = at + 40 + extra + id_length
            name = self._text(text, name_length)
            found[name] = Table(be(self.file, at), be(self.file, at + 8, 4), size)
            at += -(-(40 + extra + id_length + name_length) // 8) * 8
        return found

    def read(self, table: Table | None = None) -> bytes:
        """The whole guest disk, or that of another L1 table."""
        if self.form == "raw":
            return self.file.ljust(-(-self.size // _SECTOR) * _SECTOR, b"\0")
        table = self.table if table is None else table
        below = b"" if self.below is None else self.below.read()
        size = 1 << self.cluster_bits
        parts = []
        for start in range(0, table.size, size):
            old = below[start : start + size].ljust(size, b"\0")
            parts.append(self._cluster(table, start, old))
        return b"".join(parts)[: table.size]

    def entry(self, table: Table, start: int) -> tuple[int, int]:
        """The L2 entry of a cluster, with its bitmap of subclusters; 0 where there is no table."""
        index = start >> self.cluster_bits
        l1_index, l2_index = index >> self.l2_bits, index & ((1 << self.l2_bits) - 1)
        if l1_index >= table.length:
            return 0, 0
        l2 = be(self.file, table.offset + 8 * l1_index) & (_OFFSET if self.form == "qcow2" else -1)
        if not l2:
            return 0, 0
        at = l2 + l2_index * (16 if self.extended else 8)
        return be(self.file, at), be(self.file, at + 8) if self.extended else 0

    def place(self, offset: int, table: Table | None = None) -> tuple[str, int | None, int]:
        """How a guest byte is stored: data, zero, unallocated or compressed; where; in which layer.

        Where is its host offset, of compressed data that of the first byte; layer 0 is this one.
        """
        kind, host = self._own_place(offset, self.table if table is None else table)
        if kind == "unallocated" and self.below is not None and offset < self.below.size:
            kind, host, depth = self.below.place(offset)
            return kind, host, depth + 1
        return kind, host, 0

    def _own_place(self, offset: int, table: Table) -> tuple[str, int | None]:
        if self.form == "raw":
            return "data", offset
        size = 1 << self.cluster_bits
        start, within = offset & -size, offset & (size - 1)
        entry, bitmap = self.entry(table, start)
        if self.form == "qcow":
            if entry & _COPIED:
                return "compressed", entry & ((1 << (63 - self.cluster_bits)) - 1)
            return ("data", entry + within) if entry else ("unallocated", None)
        if entry & _COMPRESSED:
            return "compressed", self.compressed_run(entry)[0]
        host = (entry & _OFFSET) + within if entry & _OFFSET else None
        if self.data is not self.file and entry & _COPIED:
            host = offset
        zero, stored = entry & 1, host is not None
        if self.extended:
            index = within * 32 // size
            zero, stored = bitmap >> (32 + index) & 1, bool(bitmap >> index & 1)
        if zero:
            return "zero", host
        return ("data", host) if stored else ("unallocated", host)

    def _cluster(self, table: Table, start: int, old: bytes) -> bytes:
        """One guest cluster; ``old`` is what is under it."""
        entry, bitmap = self.entry(table, start)
        if self.form == "qcow":
            if entry & _COPIED:
                return self._inflated_qcow(entry)
            return self._stored(entry, start) if entry else old
        if entry & _COMPRESSED:
            return self._inflated(entry)
        external = self.data is not self.file
        has_place = bool(entry & _OFFSET) or (external and bool(entry & _COPIED))
        if self.extended:
            stored = self._stored(entry & _OFFSET, start) if has_place else b""
            return self._mixed(bitmap, stored, old)
        if entry & 1:
            return bytes(len(old))
        return self._stored(entry & _OFFSET, start) if has_place else old

    def _mixed(self, bitmap: int, stored: bytes, old: bytes) -> bytes:
        size = len(old) // 32
        parts = []
        for index in range(32):
            part = slice(index * size, (index + 1) * size)
            if bitmap >> index & 1:
                parts.append(stored[part])
            elif bitmap >> (32 + index) & 1:
                parts.append(bytes(size))
            else:
                parts.append(old[part])
        return b"".join(parts)

    def _stored(self, host: int, start: int) -> bytes:
        size = 1 << self.cluster_bits
        data = self.data[host : host + size].ljust(size, b"\0")
        if not self.encrypted:
            return data
        assert self.key is not None
        return decrypt_sectors(data, start // _SECTOR, self.key)

    def compressed_run(self, entry: int) -> tuple[int, int]:
        """Where the bytes of a compressed cluster lie: host offset and length."""
        bits = 62 - (self.cluster_bits - 8)
        host = entry & ((1 << bits) - 1)
        sectors = (entry & (_COMPRESSED - 1)) >> bits
        return host, (sectors + 1) * _SECTOR - host % _SECTOR

    def _inflated(self, entry: int) -> bytes:
        host, length = self.compressed_run(entry)
        data = self.file[host : host + length]
        return _inflate_zstd(data) if self.zstd else zlib.decompressobj(-15).decompress(data)

    def _inflated_qcow(self, entry: int) -> bytes:
        bits = 63 - self.cluster_bits
        host = entry & ((1 << bits) - 1)
        length = (entry & (_COPIED - 1)) >> bits
        return zlib.decompressobj(-15).decompress(self.file[host : host + length])


def _inflate_zstd(data: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        zstd = import_module(name)
    except ImportError:
        raise UnsupportedFeatureError("zstd", f"pip install {name}") from None
    return bytes(zstd.ZstdDecompressor().decompress(data))


def read_image(
    path: Path,
    form: str,
    passphrases: Mapping[int, str | bytes],
    snapshot: str | None = None,
) -> bytes:
    """The guest disk of an image, or what a snapshot, by name, kept of it."""
    layer = Layer(path, form, passphrases)
    return layer.read(None if snapshot is None else layer.snapshots()[snapshot])
