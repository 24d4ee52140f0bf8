"""What each host cluster of a qcow2 file is, and whether its refcount is high enough.

Small, slow and independent of ``qcow2crypt.image.qcow2.check``: one dictionary entry a cluster.
For small sound files, and for files as a power failure leaves them.
Follows the qcow2 document, "Host cluster management".
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator

from qcow2crypt.testing.textbook import Layer, Table, be

_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
DIRTY = 1
"""The incompatible feature bit: refcounts are to be made anew before they are used."""


def regions(layer: Layer) -> dict[int, list[str]]:
    """From the number of a host cluster to what lies in it, a word for each reference."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    size = 1 << layer.cluster_bits

    def note(offset: int, length: int, what: str) -> None:
        for cluster in range(offset // size, -(-(offset + length) // size)):
            found[cluster].append(what)

    for offset, length, what in _structures(layer):
        note(offset, length, what)
    for of, l1 in _l1_tables(layer):
        note(l1.offset, 8 * l1.length, "L1 table" + of)
        for l2_at, entries in _l2_tables(layer, l1):
            note(l2_at, size, "L2 table" + of)
            for start, entry in entries:
                where = f" of guest offset {start:#x}{of}"
                if entry & _COMPRESSED:
                    note(*layer.compressed_run(entry), "compressed data" + where)
                elif entry & _OFFSET and layer.data is layer.file:
                    note(entry & _OFFSET, size, "data" + where)
    return dict(found)


def _structures(layer: Layer) -> Iterator[tuple[int, int, str]]:
    """Host offset, length and name of what is neither table of the guest nor data."""
    file, size = layer.file, 1 << layer.cluster_bits
    yield 0, size, "header"
    table, length = be(file, 48), be(file, 56, 4) << layer.cluster_bits
    yield table, length, "refcount table"
    for entry in _numbers(file, table, length // 8):
        if entry:
            yield entry & ~511, size, "refcount block"
    if be(file, 60, 4):
        yield be(file, 64), _snapshot_bytes(layer), "snapshot table"


def _l1_tables(layer: Layer) -> Iterator[tuple[str, Table]]:
    """All of them; of what is told in words."""
    yield "", layer.table
    for name, table in layer.snapshots().items():
        yield f" of snapshot {name}", table


def region_at(layer: Layer, offset: int) -> str:
    """What lies at a host offset, in words."""
    words = regions(layer).get(offset >> layer.cluster_bits)
    return " and ".join(dict.fromkeys(words)) if words else "a cluster that nothing refers to"


def low_refcounts(layer: Layer) -> dict[int, tuple[int, list[str]]]:
    """Host clusters that are referred to more often than their refcount says.

    The number of the cluster, its refcount, and what refers to it.  Such a file is corrupt, unless
    it says that its refcounts are not to be trusted (``DIRTY``).
    """
    version = be(layer.file, 4, 4)
    if version == 3 and be(layer.file, 72) & DIRTY:
        return {}
    bits = 1 << be(layer.file, 96, 4) if version == 3 else 16
    found = {}
    for cluster, words in regions(layer).items():
        count = _refcount(layer, cluster, bits)
        if count < len(words):
            found[cluster] = (count, words)
    return found


def _refcount(layer: Layer, cluster: int, bits: int) -> int:
    per_block = (8 << layer.cluster_bits) // bits
    table = be(layer.file, 48)
    if cluster // per_block * 8 >= be(layer.file, 56, 4) << layer.cluster_bits:
        return 0
    block = be(layer.file, table + cluster // per_block * 8) & ~511
    if not block:
        return 0
    index = cluster % per_block
    if bits < 8:
        return be(layer.file, block + index * bits // 8, 1) >> index * bits % 8 & ((1 << bits) - 1)
    return be(layer.file, block + index * bits // 8, bits // 8)


def _l2_tables(layer: Layer, l1: Table) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each L2 table: its host offset, and guest offset and value of its entries but for zeros."""
    step = 2 if layer.extended else 1
    count = step << layer.l2_bits
    for index in range(l1.length):
        at = be(layer.file, l1.offset + 8 * index) & _OFFSET
        if not at:
            continue
        first = index << (layer.l2_bits + layer.cluster_bits)
        entries = _numbers(layer.file, at, count)[::step]
        yield at, [(first + (n << layer.cluster_bits), e) for n, e in enumerate(entries) if e]


def _numbers(file: bytes, offset: int, count: int) -> tuple[int, ...]:
    """So many big-endian numbers of 64 bits."""
    return struct.unpack(f">{count}Q", file[offset : offset + 8 * count].ljust(8 * count, b"\0"))


def _snapshot_bytes(layer: Layer) -> int:
    """The length of the snapshot table."""
    start = at = be(layer.file, 64)
    for _ in range(be(layer.file, 60, 4)):
        length = 40 + be(layer.file, at + 36, 4)
        length += be(layer.file, at + 12, 2) + be(layer.file, at + 14, 2)
        at += -(-length // 8) * 8
    return at - start
