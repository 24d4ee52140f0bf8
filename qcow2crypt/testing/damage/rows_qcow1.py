"""A tiny image of qcow version 1, put together by hand, and what damages do to it.

Knows what images made by QEMU look like, and nothing of this package.  The guest disk has four
clusters of 512 bytes: 0 and 1 are stored, 2 is not, 3 is compressed.
"""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import replace

from qcow2crypt.errors import CompressedDataError, HeaderError, MappingError
from qcow2crypt.testing.damage.table import Damage, MapDamage, reads, refused, unreadable
from qcow2crypt.testing.damage.tiny import Tiny, put

SIZE = 512
L1, L2, FIRST, SECOND, PACKED = 64, 512, 1024, 1536, 2048
COMPRESSED = 1 << 63
LENGTH_AT = 63 - 9  # where the length stands in the entry of a compressed cluster
LIMIT = 2**63 - 2**30
"""QEMU reads nothing behind this offset."""


def packed(plain: bytes) -> bytes:
    """``plain`` as the data of a compressed cluster."""
    deflater = zlib.compressobj(level=9, wbits=-12)
    return deflater.compress(plain) + deflater.flush()


def compressed_entry(offset: int, length: int) -> int:
    return COMPRESSED | length << LENGTH_AT | offset


def body() -> Tiny:
    stored = random.Random(1).randbytes(2 * SIZE)
    last = b"compressed" * 51 + b"ab"
    run = packed(last)
    header = struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, 4 * SIZE, 9, 6, 0, 0, L1)
    data = put(header, L1, struct.pack(">Q", L2))
    entries = (FIRST, SECOND, 0, compressed_entry(PACKED, len(run)))
    data = put(data, L2, struct.pack(">4Q", *entries).ljust(SIZE, b"\0"))
    data = put(data, FIRST, stored) + run.ljust(SIZE, b"\0")
    return Tiny(data, stored + bytes(SIZE) + last, SIZE, 48, L1, L2, (FIRST, SECOND))


WHOLE = body()
_DATA, _CONTENT = WHOLE.data, WHOLE.content
_LAST = _CONTENT[3 * SIZE :]
_ENTRY_3 = L2 + 3 * 8
_RUN = len(packed(_LAST))


def header(offset: int, length: int, value: int) -> bytes:
    return put(_DATA, offset, value.to_bytes(length, "big"))


def l1(value: int) -> bytes:
    return put(_DATA, L1, struct.pack(">Q", value))


def l2(index: int, value: int) -> bytes:
    return put(_DATA, L2 + 8 * index, struct.pack(">Q", value))


def run_of(data: bytes, length: int | None = None) -> bytes:
    """The image with other compressed data at its end."""
    changed = put(_DATA[:PACKED], PACKED, data)
    entry = compressed_entry(PACKED, len(data) if length is None else length)
    return put(changed, _ENTRY_3, struct.pack(">Q", entry))


def bad_entry(name: str, data: bytes, guest: int, spared: tuple[int, ...]) -> MapDamage:
    where = ("L2 entry", L2 + guest // SIZE * 8)
    return unreadable(
        name, data, MappingError, where, body=WHOLE, guest_offset=guest, spared=spared
    )


def bad_run(name: str, data: bytes, offset: int = PACKED) -> MapDamage:
    return unreadable(
        name,
        data,
        CompressedDataError,
        ("compressed data", offset),
        body=WHOLE,
        guest_offset=3 * SIZE,
        spared=(0, 1, 2),
    )


_ZEROS = "qemu-img takes what lies behind the end of the file for zeros; half a header is no header"

_ROWS: list[Damage] = [
    reads("nothing", _DATA, _CONTENT),
    # The header.
    refused("version 2", header(4, 4, 2), HeaderError, ("version", 4)),
    refused("version 0", header(4, 4, 0), HeaderError, ("version", 4)),
    refused("magic", header(0, 4, 0), HeaderError, ("magic", 0)),
    refused("size 0", header(24, 8, 0), HeaderError, ("size", 24)),
    refused("size 1", header(24, 8, 1), HeaderError, ("size", 24)),
    reads("size 2", header(24, 8, 2), b""),
    reads("size not of whole sectors", header(24, 8, 1100), _CONTENT[:1024]),
    refused("size of more L1 than fits", header(24, 8, (2**28 - 1 << 15) + 1), HeaderError,
            ("size", 24)),
    refused("size of 2**63", header(24, 8, 2**63), HeaderError, ("size", 24)),
    refused("size of 2**64 - 1", header(24, 8, 2**64 - 1), HeaderError, ("size", 24)),
    refused("cluster_bits 8", header(32, 1, 8), HeaderError, ("cluster_bits", 32)),
    refused("cluster_bits 17", header(32, 1, 17), HeaderError, ("cluster_bits", 32)),
    refused("l2_bits 5", header(33, 1, 5), HeaderError, ("l2_bits", 33)),
    refused("l2_bits 14", header(33, 1, 14), HeaderError, ("l2_bits", 33)),
    reads("padding", header(34, 2, 0xFFFF), _CONTENT),
    reads("mtime", header(20, 4, 0xFFFFFFFF), _CONTENT),
    refused("crypt_method 2", header(36, 4, 2), HeaderError, ("crypt_method", 36)),
    refused("L1 at 2**63", header(40, 8, 2**63), HeaderError, ("l1_table_offset", 40)),
    reads("L1 behind the end", header(40, 8, 1 << 40), bytes(4 * SIZE)),
    refused("backing name of 1024", put(header(8, 8, 48), 16, b"\0\0\4\0"), HeaderError,
            ("backing_file_size", 16)),
    refused("backing name at 2**63", put(header(8, 8, 2**63), 16, b"\0\0\0\4"), HeaderError,
            ("backing_file_offset", 8)),
    reads("backing name behind the end", put(header(8, 8, 1 << 40), 16, b"\0\0\0\4"), _CONTENT),
    reads("backing name of no bytes", header(8, 8, 48), _CONTENT),
    refused("half a header", _DATA[:40], HeaderError, ("file size", None), qemu="reads",
            why=_ZEROS),
    # The L1 table.
    reads("L1 entry behind the end", l1(1 << 40), bytes(4 * SIZE)),
    reads("no L2 table", l1(0), bytes(4 * SIZE)),
    reads("L2 table at no whole sector", put(l1(L2 + 8), L2 + 8 * 4, b"\0" * 8),
          _CONTENT[SIZE:] + bytes(SIZE)),
    unreadable("L1 entry of 2**63", l1(2**63), MappingError, ("L1 entry 0", L1), body=WHOLE,
               spared=()),
    unreadable("L1 entry at the limit", l1(LIMIT), MappingError, ("L1 entry 0", L1), body=WHOLE,
               spared=()),
    reads("L1 at the header", header(40, 8, 0), bytes(4 * SIZE)),
    # The L2 table.
    bad_entry("cluster at no whole sector", l2(0, FIRST + 1), 0, (1, 2, 3)),
    bad_entry("cluster at no whole sector, 1", l2(1, SECOND + 256), SIZE, (0, 2, 3)),
    bad_entry("cluster near 2**63", l2(0, 2**63 - 512), 0, (1, 2, 3)),
    bad_entry("cluster at the limit", l2(0, LIMIT), 0, (1, 2, 3)),
    reads("cluster behind the end", l2(0, 1 << 40), bytes(SIZE) + _CONTENT[SIZE:]),
    reads("two entries, one cluster", l2(1, FIRST), _CONTENT[:SIZE] * 2 + _CONTENT[2 * SIZE :]),
    reads("entry 0", l2(1, 0), _CONTENT[:SIZE] + bytes(2 * SIZE) + _LAST),
    reads("the L2 table as a cluster", l2(1, L2), _CONTENT[:SIZE] + l2(1, L2)[L2:FIRST]
          + _CONTENT[2 * SIZE :]),
    reads("file ends in the last cluster", _DATA[:PACKED + _RUN], _CONTENT),
    reads("file ends in cluster 1", put(l2(3, 0), 0, b"")[:SECOND + 100],
          _CONTENT[:SIZE] + _CONTENT[SIZE : SIZE + 100] + bytes(412 + 2 * SIZE)),
    # Compressed clusters.
    bad_run("compressed data of no bytes", run_of(b"")),
    bad_run("compressed data behind the end", l2(3, compressed_entry(1 << 40, 20)), 1 << 40),
    bad_run("compressed data cut short", run_of(packed(_LAST)[:-4])),
    bad_run("compressed data is noise", run_of(b"\xff" * 40)),
    bad_run("one byte too few", run_of(packed(_LAST[:-1]))),
    reads("more than one cluster", run_of(packed(_LAST + b"more")), _CONTENT),
    reads("a bomb", run_of(packed(bytes(1 << 18))[:511]), _CONTENT[: 3 * SIZE] + bytes(SIZE)),
    reads("bytes behind the stream", run_of(packed(_LAST) + b"junk"), _CONTENT),
    reads("compressed data at odd offset",
          put(run_of(b"\0" + packed(_LAST)), _ENTRY_3,
              struct.pack(">Q", compressed_entry(PACKED + 1, _RUN))), _CONTENT),
]  # fmt: skip
ROWS = [replace(row, format="qcow") for row in _ROWS]
