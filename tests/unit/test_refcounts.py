"""Refcounts of a file that changes: every width, new blocks, a larger table, reuse of space."""

from __future__ import annotations

import io
import random

import pytest

from qcow2crypt.errors import FormatError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts
from qcow2crypt.image.qcow2.header import REFCOUNT_TABLE_BYTES_MAX, Header
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


@pytest.mark.parametrize("order", range(7))
def test_what_is_taken_is_counted_and_comes_back_from_the_file(order: int) -> None:
    file, header, refcounts = fresh(order)
    rng = random.Random(order)
    used = {0, 1, 2}
    for _ in range(300):
        count = rng.choice([1, 1, 1, 2, 5, 40])
        first = refcounts.allocate(count)
        taken = set(range(first, first + count))
        assert not taken & used
        used |= taken
        if rng.random() < 0.3:
            gone = rng.choice(sorted(taken))
            refcounts.release(gone)
            refcounts.settle()
            used.discard(gone)
    again = Refcounts(file, write(file, header, refcounts), protected())
    assert all(again.get(cluster) == 1 for cluster in used)
    # What else is counted are the blocks and the table, each once and all of them.
    end = again.end()
    others = [cluster for cluster in range(end) if again.get(cluster) and cluster not in used]
    table = again.table_offset // SIZE
    blocks = -(-end // refcounts_per_block(SIZE, order)) - 1  # cluster 2 is the first of them
    assert len(others) == blocks + (again.table_clusters if table != 1 else 0)
    assert not again.dirty


def test_a_run_ends_where_a_cluster_is_in_use() -> None:
    _, _, refcounts = fresh(4)
    assert refcounts.allocate_run(4) == (3, 4)
    assert refcounts.allocate(1) == 7
    refcounts.give_back(3, 4)
    assert refcounts.allocate_run(10) == (3, 4)


def test_what_is_released_is_not_reused_before_it_settles() -> None:
    _, _, refcounts = fresh(4)
    first = refcounts.allocate(3)
    refcounts.release(first, 3)
    assert refcounts.get(first) == 1
    assert refcounts.allocate(1) == first + 3
    assert refcounts.settle() == [first, first + 1, first + 2]
    assert refcounts.get(first) == 0
    assert refcounts.allocate(2) == first


def test_one_of_several_references_goes() -> None:
    file, header, _ = fresh(4)
    file.pwrite((5).to_bytes(2, "big"), 2 * SIZE + 2 * 3)
    refcounts = Refcounts(file, header, protected())
    refcounts.release(3)
    refcounts.release(3)
    assert refcounts.settle() == []
    assert refcounts.get(3) == 3


def test_a_new_block_is_written_before_the_table_names_it() -> None:
    file, _, refcounts = fresh(6)  # 64 counts in a block
    first = refcounts.allocate(70)
    assert first == 3
    table = file.pread(SIZE, SIZE)
    refcounts.write_blocks()
    assert file.pread(SIZE, SIZE) == table
    assert refcounts.table_dirty
    refcounts.write_table()
    entry = int.from_bytes(file.pread(8, SIZE + 8), "big")
    assert entry == (first + 70) * SIZE  # behind what was taken
    assert file.pread(8, entry) == (1).to_bytes(8, "big")


def test_a_larger_table_leaves_the_old_one_until_it_settles() -> None:
    file, header, refcounts = fresh(6)  # one cluster of table: 64 blocks of 64 counts
    refcounts.allocate(64 * 64)
    assert refcounts.table_moved
    assert refcounts.table_offset != SIZE
    assert refcounts.get(1) == 1
    header = write(file, header, refcounts)
    assert 1 in refcounts.settle()
    refcounts.write_blocks()
    again = Refcounts(file, header, protected())
    assert again.get(1) == 0
    assert again.get(64 * 64) == 1
    assert again.allocate(1) == 1


def test_the_table_has_a_limit() -> None:
    file, header, _ = fresh(6)
    file.truncate(1 << 30)
    clusters = REFCOUNT_TABLE_BYTES_MAX // SIZE
    header = header._replace(refcount_table_offset=1 << 20, refcount_table_clusters=clusters)
    refcounts = Refcounts(file, header, protected())
    with pytest.raises(TargetError, match="limit"):
        refcounts.allocate(REFCOUNT_TABLE_BYTES_MAX // 8 * 64 + 1)


@pytest.mark.parametrize(
    ("entry", "why"), [(3 * SIZE + 8, "unaligned"), (1 << 40, "outside"), (2 * SIZE, "twice")]
)
def test_a_table_that_cannot_be_is_refused(entry: int, why: str) -> None:
    file, header, _ = fresh(4)
    file.pwrite(entry.to_bytes(8, "big"), SIZE + 8)
    if why == "unaligned":
        # Bits 0 to 8 are reserved; what is left is aligned with clusters of 512 bytes.
        file.pwrite(bytes(4096), 3 * SIZE)
        header = header._replace(cluster_bits=10, refcount_table_offset=1024)
        file.pwrite((5 * SIZE).to_bytes(8, "big"), 1024)
    with pytest.raises(FormatError, match="refcount table entry"):
        Refcounts(file, header, protected())


def test_a_free_cluster_that_holds_metadata_is_refused() -> None:
    file, header, _ = fresh(4)
    guard = protected()
    guard.add_range(3, 2)
    refcounts = Refcounts(file, header, guard)
    with pytest.raises(FormatError, match="counted as free"):
        refcounts.allocate(1)
    with pytest.raises(FormatError, match="in use is counted as free"):
        refcounts.check_used(10)


def test_a_full_disk_leaves_the_counts_as_they_were() -> None:
    class Full(io.BytesIO):
        full = False

        def write(self, data: object, /) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(data)  # type: ignore[arg-type]

    old, header, _ = fresh(6)
    disk = Full()
    file = HostFile(disk, writable=True)
    file.pwrite(old.pread(old.size, 0), 0)
    refcounts = Refcounts(file, header, protected())
    disk.full = True
    with pytest.raises(TargetError):
        refcounts.allocate(100)  # needs a new block
    assert not refcounts.dirty
    disk.full = False
    assert refcounts.allocate(100) == 3


def test_protected_ranges_and_single_clusters() -> None:
    guard = ProtectedClusters()
    guard.add_range(10, 5)
    guard.add_range(3, 20)
    guard.add_range(40, 0)
    guard.add(100)
    inside = {cluster for cluster in range(120) if cluster in guard}
    assert inside == {*range(3, 23), 100}
    guard.remove_range(3, 20)
    guard.discard([100, 11])
    assert {cluster for cluster in range(120) if cluster in guard} == set(range(10, 15))
