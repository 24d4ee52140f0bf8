"""Refcounts of a file that changes: every width, reuse of space, counts above one, memory."""

from __future__ import annotations

import random

import pytest
from support.refcounted import SIZE, fresh, made, protected, write

from qcow2crypt.errors import FormatError, TargetError
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts
from qcow2crypt.image.qcow2.refcountblock import refcounts_per_block


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
    refcounts.give_back(3, 1)
    assert refcounts.allocate_run(10) == (3, 1)
    assert refcounts.allocate_run(10) == (8, 10)


@pytest.mark.parametrize(("count", "first"), [(66, 60), (67, 60), (68, 129), (69, 129)])
def test_a_place_without_room_for_the_block_that_counts_it_is_left(count: int, first: int) -> None:
    """Clusters 60 to 127 are free; block 1, for 64 to 127, would be made right behind."""
    used = dict.fromkeys(range(60), 1) | {128: 2}
    _, _, refcounts = made(6, [0, 2, 3], used)
    assert refcounts.allocate(count) == first
    assert [refcounts.get(first + number) for number in range(count)] == [1] * count
    assert refcounts.get(128) == 2
    assert refcounts.get(127) == (count == 67)


def test_the_header_is_never_given_out() -> None:
    _, _, refcounts = made(4, [0], {1: 1, 2: 1})
    with pytest.raises(FormatError, match="metadata is counted as free") as caught:
        refcounts.allocate(1)
    assert caught.value.field == "refcount of cluster 0"


@pytest.mark.parametrize("count", range(1, 9))
def test_the_first_place_with_room_is_taken(count: int) -> None:
    draw = random.Random(count)
    used = [number < 3 or draw.random() < 0.3 for number in range(256)]
    _, _, refcounts = made(4, [0], {number: 1 for number in range(256) if used[number]})
    first = refcounts.allocate(count)
    assert first == next(n for n in range(256) if not any(used[n : n + count]))
    assert first + count < 256


@pytest.mark.parametrize("order", range(7))
def test_a_full_block_is_passed(order: int) -> None:
    per_block = refcounts_per_block(SIZE, order)
    _, _, refcounts = made(order, [0, 1], dict.fromkeys(range(per_block), 1))
    assert refcounts.allocate(1) == per_block


def test_what_is_released_is_not_reused_before_it_settles() -> None:
    _, _, refcounts = fresh(4)
    first = refcounts.allocate(3)
    refcounts.release(first, 3)
    assert refcounts.get(first) == 1
    assert refcounts.allocate(1) == first + 3
    assert refcounts.settle() == [first, first + 1, first + 2]
    assert refcounts.get(first) == 0
    assert refcounts.allocate(2) == first


def test_what_is_released_settles_in_that_order() -> None:
    _, _, refcounts = fresh(4)
    assert refcounts.allocate(20) == 3
    for cluster in (3, 10, 11, 4):
        refcounts.release(cluster)
    assert refcounts.settle() == [3, 10, 11, 4]
    assert [refcounts.get(cluster) for cluster in (3, 4, 5, 10, 11, 12)] == [0, 0, 1, 0, 0, 1]


def test_one_of_several_references_goes() -> None:
    file, header, _ = fresh(4)
    file.pwrite((5).to_bytes(2, "big"), 2 * SIZE + 2 * 3)
    refcounts = Refcounts(file, header, protected())
    refcounts.release(3)
    refcounts.release(3)
    assert refcounts.settle() == []
    assert refcounts.get(3) == 3


def test_a_free_cluster_that_holds_metadata_is_refused() -> None:
    file, header, _ = fresh(4)
    guard = protected()
    guard.add_range(3, 2)
    refcounts = Refcounts(file, header, guard)
    with pytest.raises(FormatError, match="counted as free"):
        refcounts.allocate(1)
    with pytest.raises(FormatError, match="in use is counted as free"):
        refcounts.check_used(10)


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


def test_a_run_of_free_clusters_ends_with_its_block() -> None:
    _, _, refcounts = fresh(6)
    assert refcounts.allocate(57) == 3
    assert refcounts.allocate_run(10) == (60, 4)
    assert refcounts.allocate_run(1) == (64, 1)
    assert refcounts.allocate_run(1) == (66, 1)  # 65 is the block that counts 64 to 127


# ------------------------------------------------------------------------ counts above one


@pytest.mark.parametrize("order", range(7))
def test_a_reference_more_up_to_what_the_width_can_count(order: int) -> None:
    file, header, refcounts = fresh(order)
    cluster = refcounts.allocate(1)
    most = (1 << (1 << order)) - 1
    for count in range(1, min(most, 300)):
        assert refcounts.can_share(cluster)
        refcounts.share(cluster)
        assert refcounts.get(cluster) == count + 1
    if most < 300:
        assert not refcounts.can_share(cluster)
        with pytest.raises(TargetError, match=f"{1 << order} bits cannot count one more"):
            refcounts.share(cluster)
        assert refcounts.get(cluster) == most
    again = Refcounts(file, write(file, header, refcounts), protected())
    assert again.get(cluster) == min(most, 300)


def test_what_is_free_or_metadata_gets_no_reference_more() -> None:
    _, _, refcounts = fresh(4)
    with pytest.raises(FormatError, match="in use is counted as free"):
        refcounts.share(3)
    for cluster in (0, 1, 2):  # header, refcount table, its block
        with pytest.raises(FormatError, match="metadata is counted as free"):
            refcounts.share(cluster)
    assert not refcounts.dirty


def test_the_last_reference_that_goes_frees_a_cluster_and_is_written() -> None:
    file, header, refcounts = fresh(4)
    cluster = refcounts.allocate(2)
    refcounts.filling = cluster
    refcounts.share(cluster)
    refcounts.write_blocks()
    refcounts.release(cluster)
    assert refcounts.settle() == []
    assert refcounts.filling == cluster
    refcounts.release(cluster)
    refcounts.release(cluster)  # more than there are: a damaged image
    assert refcounts.settle() == [cluster]
    assert refcounts.filling is None
    again = Refcounts(file, write(file, header, refcounts), protected())
    assert [again.get(cluster + n) for n in (0, 1)] == [0, 1]


# --------------------------------------------------------------------- what is held in memory


def test_what_waits_is_told() -> None:
    _, _, refcounts = fresh(4)
    assert (refcounts.dirty, refcounts.dirty_bytes, refcounts.has_releases) == (False, 0, False)
    first = refcounts.allocate(6)
    assert (refcounts.dirty, refcounts.dirty_bytes) == (True, SIZE)
    refcounts.write_blocks()
    assert (refcounts.dirty, refcounts.dirty_bytes) == (False, 0)
    refcounts.release(first, 0)
    assert not refcounts.has_releases
    refcounts.release(first, 2)
    refcounts.release(first + 2)  # follows: one range
    assert (refcounts.dirty, refcounts.dirty_bytes) == (True, 128)
    refcounts.release(first + 4)
    assert (refcounts.has_releases, refcounts.dirty_bytes) == (True, 256)
    assert refcounts.settle() == [first, first + 1, first + 2, first + 4]
    assert (refcounts.has_releases, refcounts.dirty_bytes) == (False, SIZE)


def test_few_clean_blocks_are_kept_and_all_dirty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow2crypt.image.qcow2.edit.refcounts._KEPT_BYTES", 1)
    file, header, refcounts = fresh(6)
    refcounts.allocate(64 * 20)
    assert len(refcounts._blocks) == 21
    header = write(file, header, refcounts)
    assert len(refcounts._blocks) == 4
    again = Refcounts(file, header, protected())
    assert all(again.get(cluster) == 1 for cluster in range(64 * 20))
    assert list(again._blocks) == [16, 17, 18, 19]
    again.get(16 * 64)  # the one used last stays the longest
    again.get(0)
    assert list(again._blocks) == [18, 19, 16, 0]
    again.share(5 * 64)
    for index in range(6, 16):
        again.get(index * 64)
    assert list(again._blocks) == [5, 12, 13, 14, 15]
    assert again.get(5 * 64) == 2


def test_as_many_bytes_of_clean_blocks_are_kept_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow2crypt.image.qcow2.edit.refcounts._KEPT_BYTES", 6 * SIZE)
    _, _, refcounts = fresh(6)
    refcounts.allocate(64 * 20)
    refcounts.write_blocks()
    assert list(refcounts._blocks) == [15, 16, 17, 18, 19, 20]
