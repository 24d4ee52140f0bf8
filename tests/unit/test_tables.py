"""Tables in memory: what is read, what is kept, what is written back."""

from __future__ import annotations

import io
import struct
import threading
from array import array

import pytest

from qcow2crypt.errors import ReadOnlyError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.tables import (
    TableCache,
    pack_table,
    read_entries,
    read_l1,
    read_parts,
    read_table,
)

CLUSTER = 512
ENTRIES = CLUSTER // 8


def file_of(tables: int, *, writable: bool = True) -> tuple[io.BytesIO, HostFile]:
    """A file with a table in each cluster; entry n of table t is 1000 * t + n."""
    values = (1000 * table + n for table in range(tables) for n in range(ENTRIES))
    data = io.BytesIO(b"".join(struct.pack(">Q", value) for value in values))
    return data, HostFile(data, writable=writable)


def cache_of(tables: int, kept: int) -> tuple[io.BytesIO, TableCache]:
    data, file = file_of(tables)
    return data, TableCache(file, CLUSTER, bytes_max=kept * CLUSTER)


class TestReading:
    def test_entries_are_native_integers(self) -> None:
        _, file = file_of(2)
        assert list(read_table(file, CLUSTER, 3)) == [1000, 1001, 1002]

    @pytest.mark.parametrize(
        ("cut", "entry"), [(0, 0), (1, 0), (7, 0x0001_0203_0405_0600), (8, 0x0001_0203_0405_0607)]
    )
    def test_what_is_behind_the_end_of_the_file_is_zero(self, cut: int, entry: int) -> None:
        file = HostFile(io.BytesIO(bytes(range(cut))))
        assert list(read_table(file, 0, 3)) == [entry, 0, 0]
        assert list(read_table(file, 800, 3)) == [0, 0, 0]

    def test_an_l1_table_is_cut_at_the_end_of_the_file(self) -> None:
        _, file = file_of(2)
        assert len(read_l1(file, CLUSTER, 4_000_000)) == ENTRIES
        assert len(read_l1(file, CLUSTER, 3)) == 3
        assert len(read_l1(file, 1 << 60, 3)) == 0

    def test_a_table_in_parts(self) -> None:
        """They are the table, one behind the other, as far as the file reaches."""
        table = array("Q", range(200_000))
        data = bytes(16) + struct.pack(">200000Q", *table)
        for count, cut in ((200_000, 0), (3_000_000, 0), (131_073, 0), (200_000, 5)):
            file = HostFile(io.BytesIO(data[: len(data) - cut]))
            parts = list(read_parts(file, 16, count))
            assert 1 < len(parts) < 10
            wanted = list(table[:count])
            wanted[-1] &= -1 << 8 * cut
            assert [entry for _, part in parts for entry in part] == wanted
            assert all(table[index] == part[0] for index, part in parts)
        assert list(read_parts(file, 1 << 60, 3)) == []

    def test_entries_that_are_not_0(self) -> None:
        entries = {0: 5, 7: 1 << 63, 65_535: 8, 65_536: 9, 199_999: 1}
        data = bytearray(8 * 200_000)
        for index, entry in entries.items():
            struct.pack_into(">Q", data, 8 * index, entry)
        file = HostFile(io.BytesIO(data))
        assert dict(read_entries(file, 0, 200_000)) == entries
        assert list(read_entries(file, 56, 1)) == [(0, 1 << 63)]

    def test_packing_is_the_way_back(self) -> None:
        data, file = file_of(1)
        table = read_table(file, 0, ENTRIES)
        assert pack_table(table) == data.getvalue()
        assert list(table)[:3] == [0, 1, 2], "packing must not change the table"


class TestCache:
    def test_a_table_is_read_once(self) -> None:
        data, cache = cache_of(2, 4)
        first = cache.get(0)
        data.getbuffer()[:] = bytes(len(data.getvalue()))
        assert cache.get(0) is first
        assert first[1] == 1
        assert cache.get(CLUSTER)[1] == 0

    def test_a_table_is_always_whole(self) -> None:
        file = HostFile(io.BytesIO(bytes(7) + b"\1"))
        assert list(TableCache(file, CLUSTER).get(0)) == [1] + [0] * (ENTRIES - 1)

    def test_a_table_behind_the_end_of_the_file_takes_no_memory_to_read(self) -> None:
        _, cache = cache_of(1, 4)
        assert cache.find(CLUSTER) is None
        assert cache.find(1 << 60) is None
        assert len(cache) == 0
        assert list(cache.get(CLUSTER)) == [0] * ENTRIES

    def test_the_one_not_used_for_longest_goes_first(self) -> None:
        _, cache = cache_of(9, 3)
        tables = [cache.get(n * CLUSTER) for n in range(3)]
        assert cache.get(0) is tables[0]
        cache.get(3 * CLUSTER)
        assert len(cache) == 3
        assert cache.get(0) is tables[0]
        assert cache.get(2 * CLUSTER) is tables[2]
        assert cache.get(CLUSTER) is not tables[1]

    def test_8_mib_are_kept(self) -> None:
        cache = TableCache(HostFile(io.BytesIO()), 1 << 20)
        for n in range(10):
            cache.get(n << 20)
        assert len(cache) == 8

    def test_two_are_kept_whatever_the_bound(self) -> None:
        _, cache = cache_of(9, 0)
        for n in range(9):
            cache.get(n * CLUSTER)
        assert len(cache) == 2

    def test_changed_tables_are_never_pushed_out(self) -> None:
        data, cache = cache_of(40, 2)
        before = data.getvalue()
        for n in range(20):
            cache.edit(n * CLUSTER)[0] = n + 7
        for n in range(20, 40):
            cache.get(n * CLUSTER)
        assert cache.dirty == {n * CLUSTER for n in range(20)}
        assert cache.dirty_bytes == 20 * CLUSTER
        assert data.getvalue() == before
        assert [cache.get(n * CLUSTER)[0] for n in range(20)] == [n + 7 for n in range(20)]
        assert cache.write_dirty() == 20
        assert len(cache) == 2
        assert cache.dirty == frozenset()
        assert cache.dirty_bytes == 0
        assert cache.write_dirty() == 0
        assert struct.unpack_from(">QQ", data.getvalue(), 19 * CLUSTER) == (26, 19001)

    def test_changed_tables_take_the_room_of_others(self) -> None:
        _, cache = cache_of(9, 6)
        for n in range(6):
            cache.get(n * CLUSTER)
        for n in range(6, 9):
            cache.put(n * CLUSTER, array("Q", range(ENTRIES)))
            assert len(cache) == 6
        cache.get(0)
        assert len(cache) == 6

    def test_a_new_content_takes_the_place_of_the_old(self) -> None:
        _, cache = cache_of(2, 4)
        cache.get(CLUSTER)
        table = array("Q", range(ENTRIES))
        cache.put(CLUSTER, table)
        assert cache.get(CLUSTER) is table

    def test_a_new_table_grows_the_file(self) -> None:
        data, cache = cache_of(1, 4)
        table = array("Q", range(ENTRIES))
        cache.put(3 * CLUSTER, table)
        assert cache.find(3 * CLUSTER) is table
        assert len(data.getvalue()) == CLUSTER
        cache.write_dirty()
        assert data.getvalue()[3 * CLUSTER :] == struct.pack(f">{ENTRIES}Q", *range(ENTRIES))

    def test_a_table_of_another_length_is_a_mistake(self) -> None:
        _, cache = cache_of(1, 4)
        for length in (1, ENTRIES - 1, ENTRIES + 1):
            with pytest.raises(ValueError, match="64 entries"):
                cache.put(0, array("Q", bytes(8 * length)))

    def test_marking(self) -> None:
        _, cache = cache_of(2, 4)
        table = cache.get(CLUSTER)
        table[0] = 5
        cache.mark_dirty(CLUSTER)
        cache.mark_dirty(CLUSTER)
        assert cache.dirty == {CLUSTER}
        assert cache.get(CLUSTER) is table
        with pytest.raises(KeyError):
            cache.mark_dirty(0)

    def test_many_are_read_as_they_stand_in_the_file(self) -> None:
        _, tables = cache_of(5, 2)
        wanted = array("Q", tables.get(3 * CLUSTER))
        wanted.extend(tables.get(CLUSTER))
        assert tables.read_many([3 * CLUSTER, CLUSTER]) == wanted
        tables.edit(2 * CLUSTER)[0] = 7
        assert tables.read_many([3 * CLUSTER, CLUSTER]) == wanted
        assert tables.read_many([3 * CLUSTER, 2 * CLUSTER]) is None
        tables.write_dirty()
        again = tables.read_many([2 * CLUSTER])
        assert again is not None
        assert again[0] == 7
        assert tables.read_many([]) == array("Q")

    def test_every_change_has_another_number(self) -> None:
        _, tables = cache_of(5, 2)
        seen = [tables.version]
        tables.get(0)
        tables.find(CLUSTER)
        assert tables.version == seen[0]
        table = tables.get(CLUSTER)
        for change in (
            lambda: tables.edit(0),
            lambda: tables.edit(0),
            lambda: tables.mark_dirty(CLUSTER),
            lambda: tables.mark_dirty(CLUSTER),
            lambda: tables.put(CLUSTER, table),
            tables.write_dirty,
            lambda: tables.drop(0),
            tables.clear,
        ):
            change()
            assert tables.version not in seen
            seen.append(tables.version)

    def test_dropping_forgets_a_change(self) -> None:
        data, cache = cache_of(2, 4)
        before = data.getvalue()
        cache.edit(0)[0] = 5
        cache.get(CLUSTER)
        cache.drop(0)
        cache.drop(CLUSTER)
        assert len(cache) == 0
        cache.write_dirty()
        assert data.getvalue() == before
        cache.edit(0)[0] = 5
        cache.get(CLUSTER)
        cache.clear()
        assert (len(cache), cache.get(0)[0]) == (0, 0)

    def test_what_could_not_be_written_stays_changed(self) -> None:
        _, file = file_of(2, writable=False)
        cache = TableCache(file, CLUSTER)
        cache.edit(0)[0] = 5
        with pytest.raises(ReadOnlyError):
            cache.write_dirty()
        assert cache.dirty == {0}
        assert cache.get(0)[0] == 5

    def test_threads(self) -> None:
        """Readers that push tables out all the time, beside one that changes them."""
        _, cache = cache_of(50, 2)
        wrong: list[int] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                for n in range(50):
                    table = cache.get(n * CLUSTER)
                    if table[1] != 1000 * n + 1:
                        wrong.append(n)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(1, 6):
            for n in range(50):
                cache.edit(n * CLUSTER)[0] = turn
            cache.write_dirty()
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert [cache.get(n * CLUSTER)[0] for n in range(50)] == [5] * 50
