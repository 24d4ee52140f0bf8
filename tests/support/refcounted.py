"""The refcounts of a small file in memory, as in a new image: header, refcount table, one block."""

from __future__ import annotations

import io
from dataclasses import replace

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
    file = HostFile(io.BytesIO(), writable=True)
    counts = [1, 1, 1] + [0] * (refcounts_per_block(SIZE, order) - 3)
    file.pwrite(bytes(SIZE), 0)
    file.pwrite((2 * SIZE).to_bytes(8, "big").ljust(SIZE, b"\0"), SIZE)
    file.pwrite(pack_refcounts(counts, order), 2 * SIZE)
    header = replace(HEADER, refcount_order=order)
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
    return replace(
        header,
        refcount_table_offset=refcounts.table_offset,
        refcount_table_clusters=refcounts.table_clusters,
    )
