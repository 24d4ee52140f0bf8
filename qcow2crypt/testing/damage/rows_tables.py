"""Damages to L1 and L2 entries, and files that end too early."""

from __future__ import annotations

from qcow2crypt.errors import HeaderError, MappingError
from qcow2crypt.testing.damage.table import C4K, V2, V3, Damage, reads, refused, unreadable
from qcow2crypt.testing.damage.tiny import COPIED, ZERO, Tiny, entry, put, tiny

RESERVED_L1 = (2**64 - 1) ^ 0x00FF_FFFF_FFFF_FE00
RESERVED_L2 = 0x3F << 56 | 0x1FE
HIGHEST = 0x00FF_FFFF_FFFF_FE00
V2C4K = tiny(version=2, cluster_bits=12)

FIRST, SECOND = V3.content[:512], V3.content[512:1024]


def l1(value: int, body: Tiny = V3) -> bytes:
    """The image with another L1 entry."""
    return put(body.data, body.l1, entry(value))


def l2(value: int, body: Tiny = V3, index: int = 0) -> bytes:
    """The image with another L2 entry."""
    return put(body.data, body.l2 + 8 * index, entry(value))


L1_ROWS = [
    reads("L1: all reserved bits set", l1(V3.l2 | RESERVED_L1)),
    reads("L1: no copied bit", l1(V3.l2)),
    reads("L1: empty", l1(0), bytes(2048)),
    reads("L1: no offset, all other bits", l1(RESERVED_L1), bytes(2048)),
    reads("L1: L2 table behind the end of the file", l1(2**40), bytes(2048)),
    reads("L1: L2 table at the highest offset", l1(HIGHEST), bytes(2048)),
    unreadable(
        "L1: L2 table not aligned",
        l1(C4K.l2 + 512 | COPIED, C4K),
        MappingError,
        ("L1 entry 0", C4K.l1),
        body=C4K,
        spared=(),
    ),
]


def zero_in_v2(name: str, value: int, index: int) -> Damage:
    """A row for a zero flag where there are none."""
    return unreadable(
        name,
        l2(value, V2, index),
        MappingError,
        ("L2 entry", V2.l2 + 8 * index),
        body=V2,
        guest_offset=512 * index,
        spared=tuple(n for n in range(4) if n != index),
    )


L2_ROWS = [
    reads("L2: all reserved bits set", l2(V3.clusters[0] | RESERVED_L2)),
    reads("L2: no copied bit", l2(V3.clusters[0])),
    reads("L2: one host cluster twice", l2(V3.clusters[1]), SECOND + SECOND + bytes(1024)),
    reads("L2: nothing but the copied bit", l2(COPIED), bytes(512) + V3.content[512:]),
    reads("L2: nothing but reserved bits", l2(RESERVED_L2), bytes(512) + V3.content[512:]),
    reads("L2: data behind the end of the file", l2(2**40), bytes(512) + V3.content[512:]),
    reads("L2: data at the highest offset", l2(HIGHEST), bytes(512) + V3.content[512:]),
    reads("L2: the header as data", l2(0x200 | COPIED), V3.data[512:1024] + V3.content[512:]),
    reads(
        "L2: zero flag, host cluster kept", l2(V3.clusters[0] | ZERO), bytes(512) + V3.content[512:]
    ),
    reads("L2: zero flag, highest offset", l2(HIGHEST | ZERO), bytes(512) + V3.content[512:]),
    reads("L2: zero flag and copied bit", l2(COPIED | ZERO), bytes(512) + V3.content[512:]),
    zero_in_v2("L2: zero flag in version 2", V2.clusters[0] | ZERO, 0),
    zero_in_v2("L2: zero flag alone in version 2", ZERO, 2),
    *(
        unreadable(
            f"L2: not aligned, {name}",
            l2(body.clusters[0] + 512 | flag, body),
            MappingError,
            ("L2 entry", body.l2),
            body=body,
        )
        for name, body, flag in (
            ("version 3", C4K, COPIED),
            ("version 2", V2C4K, COPIED),
            ("zero flag", C4K, ZERO),
            ("zero flag in version 2", V2C4K, ZERO),
        )
    ),
]


def cut(length: int, content: bytes) -> Damage:
    """A row for a file that ends after ``length`` bytes."""
    return reads(f"cut to {length} bytes", V3.data[:length], content)


def cut_header(length: int) -> Damage:
    """A row for a file that ends inside its header."""
    where = ("magic", 0) if length < 4 else ("version", 4) if length < 8 else ("file size", None)
    return refused(f"cut to {length} bytes", V3.data[:length], HeaderError, where)


CUT_ROWS = [
    *(cut_header(length) for length in (*range(16), *range(16, 104, 8), 101, 102, 103)),
    *(cut(length, bytes(2048)) for length in (*range(104, 121), 511, 512, 1024, 1536)),
    cut(1542, bytes(2048)),  # without the last bytes of the L1 entry, which are bits of an offset
    *(cut(length, bytes(2048)) for length in (1544, 1800, 2048)),  # the L2 table is gone
    cut(2055, bytes(2048)),  # the first L2 entry lost its last byte, which is zero; data is gone
    *(cut(length, bytes(2048)) for length in (2056, 2064, 2080, 2559, 2560)),
    cut(2561, FIRST[:1] + bytes(2047)),
    cut(3000, FIRST[:440] + bytes(1608)),
    cut(3071, FIRST[:511] + bytes(1537)),
    cut(3072, FIRST + bytes(1536)),
    cut(3583, FIRST + SECOND[:511] + bytes(1025)),
    refused(
        "version 2, cut to 71 bytes",
        V2.data[:71],
        HeaderError,
        ("file size", None),
        qemu="reads",
        why="QEMU takes what is cut off for zeros; a header has to be there",
    ),
    *(
        reads(f"version 2, cut to {length} bytes", V2.data[:length], bytes(2048))
        for length in (72, 73, 80, 512)
    ),
]

ROWS = [*L1_ROWS, *L2_ROWS, *CUT_ROWS]
