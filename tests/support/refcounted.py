"""The refcounts of a small file in memory: a header cluster, the refcount table, blocks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts
from qcow2crypt.image.qcow2.header import Header
from qcow2crypt.image.qcow2.refcountblock import pack_refcounts, refcounts_per_block

SIZE = 512
HEADER = Header(
    version=3,
    backing_file_offset=0,
    backing_file_size=0,
    cluster_bits=9,
    size=1 << 20,
    crypt_method=0,
    l1_size=0,
    l1_table_offset=0,
    refcount_table_offset=SIZE,
    refcount_table_clusters=1,
    nb_snapshots=0,
    snapshots_offset=0,
    header_length=112,
)


def fresh(order: int) -> tuple[HostFile, Header, Refcounts]:
    """Header, refcount table and one block, as in a new image."""
    return made(order, [0], {0: 1, 1: 1, 2: 1})


def made(
    order: int, blocks: Sequence[int], counts: Mapping[int, int]
) -> tuple[HostFile, Header, Refcounts]:
    """The blocks with these indexes, one after the other from cluster 2 on, and these counts."""
    file = HostFile(io.BytesIO(), writable=True)
    per_block = refcounts_per_block(SIZE, order)
    file.pwrite(b"\xee" * SIZE, 0)  # no refcounts
    file.pwrite(bytes(SIZE), SIZE)
    for cluster, index in enumerate(blocks, 2):
        clusters = range(index * per_block, (index + 1) * per_block)
        block = pack_refcounts([counts.get(number, 0) for number in clusters], order)
        file.pwrite(block, cluster * SIZE)
        file.pwrite((cluster * SIZE).to_bytes(8, "big"), SIZE + 8 * index)
    header = HEADER._replace(refcount_order=order)
    return file, header, Refcounts(file, header, protected())


def protected() -> ProtectedClusters:
    found = ProtectedClusters()
    found.add(0)
    return found


def write(file: HostFile, header: Header, refcounts: Refcounts) -> Header:
    """All that ``metadata`` would write, and the header that would name the table."""
    refcounts.write_blocks()
    refcounts.write_table()
    refcounts.table_switched()
    return header._replace(
        refcount_table_offset=refcounts.table_offset,
        refcount_table_clusters=refcounts.table_clusters,
    )
