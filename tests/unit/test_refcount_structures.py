"""Refcount blocks and tables of a file that changes: new ones, damaged ones, the file's end."""

from __future__ import annotations

import io

import pytest
from support.refcounted import SIZE, fresh, made, protected, write

from qcow2crypt.errors import FormatError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts


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


def test_new_blocks_take_their_place_in_the_file_at_once() -> None:
    file, _, refcounts = fresh(6)
    file.pwrite(b"\xee" * 207 * SIZE, 3 * SIZE)
    before = file.pread(file.size, 0)
    assert refcounts.allocate(200) == 3
    zeros = range(203 * SIZE, 206 * SIZE)  # three blocks behind what was taken
    expected = before[: zeros.start] + bytes(len(zeros)) + before[zeros.stop :]
    assert file.pread(file.size, 0) == expected


def test_each_new_block_has_an_entry_and_is_protected() -> None:
    file, header, refcounts = fresh(6)
    assert refcounts.allocate(200) == 3
    for block in (203, 204, 205):
        with pytest.raises(FormatError, match="metadata is counted as free"):
            refcounts.share(block)
    refcounts.share(202)
    again = Refcounts(file, write(file, header, refcounts), protected())
    entries = file.pread(5 * 8, SIZE)
    assert entries == b"".join((n * SIZE).to_bytes(8, "big") for n in (2, 203, 204, 205, 0))
    assert [again.get(n) for n in range(207)] == [1] * 202 + [2, 1, 1, 1, 0]


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


def test_the_table_grows_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clusters, 128 blocks of 64 counts: half as many entries again would be too many."""
    monkeypatch.setattr("qcow2crypt.image.qcow2.edit.refcounts.REFCOUNT_TABLE_BYTES_MAX", 2 * SIZE)
    file, _, refcounts = fresh(6)
    assert refcounts.allocate(100 * 64) == 3
    assert refcounts.table_clusters == 2
    last = 128 * 64 - 1
    behind = refcounts.allocate(1) + 1
    blocks = 127 - behind // 64
    size = file.size
    for too_many in (1, 1000):
        with pytest.raises(TargetError, match="its refcount table has reached the limit of 1024"):
            refcounts.allocate(last - blocks - behind + 1 + too_many)
    assert file.size == size
    assert refcounts.allocate(last - blocks - behind + 1) == behind
    assert refcounts.get(last) == 1
    with pytest.raises(TargetError, match="cannot grow"):
        refcounts.allocate(1)


def test_the_table_in_force_is_protected_and_the_old_one_is_free_again() -> None:
    file, header, refcounts = fresh(6)
    refcounts.allocate(64 * 64)
    table = refcounts.table_offset // SIZE
    for cluster in (table, table + 1):
        with pytest.raises(FormatError, match="metadata is counted as free"):
            refcounts.share(cluster)
    write(file, header, refcounts)
    assert refcounts.settle() == [1]
    assert refcounts.allocate(1) == 1


def test_reserved_bits_of_a_table_entry_are_no_part_of_the_offset() -> None:
    file, header, _ = fresh(4)
    file.pwrite((2 * SIZE | 0x1FF).to_bytes(8, "big"), SIZE)
    file.pwrite((0x1FF).to_bytes(8, "big"), SIZE + 8)  # so there is no block here
    refcounts = Refcounts(file, header, protected())
    assert [refcounts.get(cluster) for cluster in (2, 3, 256)] == [1, 0, 0]
    assert refcounts.allocate(256) == 3
    refcounts.write_blocks()
    refcounts.write_table()
    assert file.pread(8, 2 * SIZE) == (1).to_bytes(2, "big") * 4
    assert file.pread(16, SIZE) == bytes.fromhex("00000000000005ff 0000000000020600")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (3 * SIZE + 8, "unaligned"),
        (1 << 40, "outside"),
        (3 * SIZE, "at the end"),
        (2 * SIZE, "twice"),
    ],
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


def test_a_table_grows_by_half() -> None:
    _, _, refcounts = fresh(6)
    first = refcounts.allocate(64 * 64)
    assert first == 3
    # 66 blocks count what there is then; half as many again may come; 64 entries in a cluster.
    assert refcounts.table_clusters == 2
    # Behind what was taken: the blocks 1 to 65, then the table.
    assert refcounts.table_offset == (first + 64 * 64 + 65) * SIZE
    assert refcounts.allocate(1) == first + 64 * 64 + 65 + 2
    assert refcounts.get(1) == 1
    assert 1 in refcounts.settle()


@pytest.mark.parametrize(
    ("blocks", "table"), [(65, 2), (85, 2), (86, 3), (128, 3), (129, 4), (171, 4)]
)
def test_a_larger_table_has_room_for_half_as_many_blocks_again(blocks: int, table: int) -> None:
    """85 and 42 fit in two clusters of 64 entries, 86 and 43 do not."""
    _, _, refcounts = fresh(6)
    count = 64 * blocks - 3 - (blocks - 1) - table
    assert refcounts.allocate(count) == 3
    assert refcounts.table_clusters == table
    assert refcounts.table_offset == (64 * blocks - table) * SIZE
    assert [refcounts.get(64 * blocks + number) for number in (-1, 0)] == [1, 0]


def test_a_table_that_moved_is_written_whole_and_one_that_did_not_by_entries() -> None:
    file, header, refcounts = fresh(6)
    refcounts.allocate(64 * 64)
    header = write(file, header, refcounts)
    assert not refcounts.table_dirty
    file.pwrite(b"\xee" * 8, refcounts.table_offset + 8 * 8)
    refcounts.allocate(64)
    assert refcounts.table_dirty
    assert not refcounts.table_moved
    refcounts.write_blocks()
    refcounts.write_table()
    assert not refcounts.table_dirty
    table = file.pread(refcounts.table_clusters * SIZE, refcounts.table_offset)
    entries = [int.from_bytes(table[at : at + 8], "big") for at in range(0, len(table), 8)]
    assert table[64:72] == b"\xee" * 8  # this one was not new
    assert all(entries[:67])
    assert not any(entries[67:])


def test_a_table_entry_that_cannot_be_is_told_with_its_place() -> None:
    file, header, _ = fresh(4)
    file.pwrite((1 << 40).to_bytes(8, "big"), SIZE + 8 * 5)
    with pytest.raises(FormatError) as caught:
        Refcounts(file, header, protected())
    error = caught.value
    assert (error.field, error.offset) == ("refcount table entry 5", SIZE + 40)
    assert error.found == f"{1 << 40:#018x}"


# --------------------------------------------------------------------------- the end of the file


def test_the_end_is_behind_the_last_cluster_in_use() -> None:
    file, header, refcounts = fresh(6)
    assert refcounts.end() == 3
    first = refcounts.allocate(200)
    file.truncate((first + 300) * SIZE)
    blocks = 3
    assert refcounts.end() == first + 200 + blocks
    refcounts.refuse_to_cut()
    refcounts.give_back(first, 200)
    assert refcounts.end() == first + 200 + blocks
    header = write(file, header, refcounts)
    guard = protected()
    guard.add(290)
    again = Refcounts(file, header, guard)
    with pytest.raises(FormatError, match="metadata is counted as free") as caught:
        again.refuse_to_cut()
    assert "refcount of cluster 290" in str(caught.value)
    file.truncate(290 * SIZE)  # what lies behind the file cannot be cut off
    with pytest.raises(FormatError, match="refcount of cluster 289"):
        again.refuse_to_cut()


def test_data_may_lie_behind_all_metadata() -> None:
    file, _, refcounts = fresh(6)
    assert refcounts.allocate(1) == 3
    file.truncate(4 * SIZE)
    assert refcounts.end() == 4
    refcounts.refuse_to_cut()


def test_what_is_counted_behind_the_file_is_not_its_end() -> None:
    _, _, refcounts = made(6, [0, 1], {0: 1, 1: 1, 2: 1, 3: 1, 70: 1})
    assert refcounts.get(70) == 1
    assert refcounts.end() == 4


def test_a_file_without_counts_ends_at_once() -> None:
    _, _, refcounts = made(6, [0], {})
    assert refcounts.end() == 0
