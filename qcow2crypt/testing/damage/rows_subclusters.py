"""Damages to extended L2 entries: what two bits for each of 32 subclusters can say wrongly.

The body has four clusters of 16 KiB.  Cluster 0 is stored whole.  Of cluster 1 subclusters 0 to 3
are stored, 4 to 7 are zero, and the others are not stored though there is room for them.
Cluster 2 is not stored, cluster 3 is zero.
"""

from __future__ import annotations

from qcow2crypt.errors import CompressedDataError, MappingError
from qcow2crypt.testing.damage.table import C64K, Damage, reads, unreadable
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, Tiny, entry, put, put_fields, tiny

_C16K = tiny(cluster_bits=14)
SIZE, SUB = 1 << 14, 1 << 9
ALL, NONE = 0xFFFF_FFFF, 0
FIRST, SECOND = _C16K.clusters
SECOND_BITS = 0xF | 0xF0 << 32


def extended(*entries: tuple[int, int]) -> bytes:
    """The image with these extended L2 entries."""
    table = b"".join(entry(value) + entry(bits) for value, bits in entries)
    data = put_fields(_C16K.data, {"incompatible_features": 16})
    return put(data, _C16K.l2, table.ljust(SIZE, b"\0"))


def with_first(value: int, bits: int) -> bytes:
    """The body with another entry for cluster 0."""
    return extended((value, bits), *ENTRIES[1:])


ENTRIES = ((FIRST | COPIED, ALL), (SECOND | COPIED, SECOND_BITS), (0, 0), (0, ALL << 32))
CONTENT = _C16K.content[:SIZE] + _C16K.content[SIZE : SIZE + 4 * SUB] + bytes(3 * SIZE - 4 * SUB)
REST = CONTENT[SIZE:]
BODY = Tiny(extended(*ENTRIES), CONTENT, SIZE, 112, _C16K.l1, _C16K.l2, _C16K.clusters)


def bad(
    name: str, value: int, bits: int, error: type[MappingError] = MappingError, where: int = 0
) -> Damage:
    """A row for a cluster 0 that cannot be."""
    field = ("L2 entry", BODY.l2) if error is MappingError else ("compressed data", where)
    return unreadable(name, with_first(value, bits), error, field, body=BODY)


ROWS = [
    reads("subclusters", BODY.data, CONTENT),
    reads("subclusters: none stored", with_first(FIRST | COPIED, NONE), bytes(SIZE) + REST),
    reads("subclusters: all zero", with_first(FIRST | COPIED, ALL << 32), bytes(SIZE) + REST),
    reads(
        "subclusters: the last one stored",
        with_first(FIRST | COPIED, 1 << 31),
        bytes(SIZE - SUB) + CONTENT[SIZE - SUB :],
    ),
    reads(
        "subclusters: every other one stored, the others zero",
        with_first(FIRST, 0x5555_5555 | 0xAAAA_AAAA << 32),
        b"".join(CONTENT[at : at + SUB] + bytes(SUB) for at in range(0, SIZE, 2 * SUB)) + REST,
    ),
    reads("subclusters: the zero flag means nothing", with_first(FIRST | COPIED | 1, ALL), CONTENT),
    reads("subclusters: copied without offset", with_first(COPIED, 0), bytes(SIZE) + REST),
    reads("subclusters: zero without a cluster", with_first(0, 1 << 40), bytes(SIZE) + REST),
    reads("subclusters: an offset behind the end", with_first(1 << 40, ALL), bytes(SIZE) + REST),
    bad("subclusters: one stored and zero", FIRST | COPIED, ALL | 1 << 32),
    bad("subclusters: the last one stored and zero", FIRST, 1 << 31 | 1 << 63),
    bad("subclusters: all stored and zero", FIRST, 2**64 - 1),
    bad("subclusters: stored without a cluster", 0, 1),
    bad("subclusters: the last one stored without a cluster", 0, 1 << 31),
    bad("subclusters: all stored without a cluster, copied", COPIED, ALL),
    bad("subclusters: offset not aligned", FIRST + 512, ALL),
    bad("subclusters: offset not aligned, none stored", FIRST + 512, 0),
    bad("subclusters: offset not aligned, all zero", FIRST + 512, ALL << 32),
    *(
        bad(
            f"subclusters: compressed nonsense, bits {bits:#x}",
            COMPRESSED | 31 << 56 | FIRST,
            bits,
            CompressedDataError,
            FIRST,
        )
        for bits in (0, 1, ALL, ALL << 32, 2**64 - 1)
    ),
    # The table of the tiny image, read as extended: its second entry is a bitmap.
    unreadable(
        "subclusters: standard entries taken for extended ones",
        put_fields(C64K.data, {"incompatible_features": 16}),
        MappingError,
        ("L2 entry", C64K.l2 + 16),
        body=C64K,
        guest_offset=C64K.cluster_size,
        spared=(),
    ),
]
