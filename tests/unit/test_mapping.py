"""From guest ranges to extents: kinds, merging, clipping, and tables that the file cuts off."""

from __future__ import annotations

import io
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mapped import image

from qcow2crypt.errors import MappingError
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.image.extents import extents_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, ZERO, entry, put, put_fields, tiny
from qcow2crypt.units import GuestOffset, HostOffset

DATA, ZEROS, NONE, PACKED = (
    ExtentKind.DATA,
    ExtentKind.ZERO,
    ExtentKind.UNALLOCATED,
    ExtentKind.COMPRESSED,
)
CLUSTER = 512
ENTRIES = CLUSTER // 8
COVERAGE = CLUSTER * ENTRIES


def map_of(data: bytes) -> ClusterMap:
    return ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))


def extents(data: bytes, start: int = 0, end: int | None = None) -> list[Extent]:
    stop = parse_header(data).guest_size if end is None else end
    return list(extents_of(map_of(data), start, stop))


def extent(kind: ExtentKind, start: int, length: int, host: int | None = None) -> Extent:
    return Extent(kind, GuestOffset(start), length, None if host is None else HostOffset(host))


def host(cluster: int) -> int:
    return cluster * CLUSTER


def test_every_kind() -> None:
    values = [host(90) | COPIED, 0, ZERO, host(80) | ZERO, COMPRESSED | 12345, host(91)]
    assert extents(image([values]), 0, 6 * CLUSTER) == [
        extent(DATA, 0, CLUSTER, host(90)),
        extent(NONE, CLUSTER, CLUSTER),
        extent(ZEROS, 2 * CLUSTER, CLUSTER),
        extent(ZEROS, 3 * CLUSTER, CLUSTER, host(80)),
        extent(PACKED, 4 * CLUSTER, CLUSTER, 12345),
        extent(DATA, 5 * CLUSTER, CLUSTER, host(91)),
    ]


def test_neighbours_are_merged_when_they_follow_each_other_in_the_file() -> None:
    values = [host(n) | flag for n, flag in ((90, COPIED), (91, 0), (92, COPIED), (94, 0), (93, 0))]
    assert extents(image([values]), 0, 5 * CLUSTER) == [
        extent(DATA, 0, 3 * CLUSTER, host(90)),
        extent(DATA, 3 * CLUSTER, CLUSTER, host(94)),
        extent(DATA, 4 * CLUSTER, CLUSTER, host(93)),
    ]


def test_data_is_not_merged_with_a_zero_cluster_that_keeps_the_next_host_cluster() -> None:
    values = [host(90), host(91) | ZERO, host(92) | ZERO, host(93)]
    assert extents(image([values]), 0, 4 * CLUSTER) == [
        extent(DATA, 0, CLUSTER, host(90)),
        extent(ZEROS, CLUSTER, 2 * CLUSTER, host(91)),
        extent(DATA, 3 * CLUSTER, CLUSTER, host(93)),
    ]


def test_compressed_clusters_are_never_merged() -> None:
    values = [COMPRESSED | 5000, COMPRESSED | 5000, COMPRESSED | 5512]
    assert [found.length for found in extents(image([values]), 0, 3 * CLUSTER)] == [CLUSTER] * 3


def test_extents_are_merged_over_the_borders_of_tables() -> None:
    first = [host(100 + n) for n in range(ENTRIES)]
    second = [host(100 + ENTRIES + n) for n in range(ENTRIES)]
    assert extents(image([first, second, None, None])) == [
        extent(DATA, 0, 2 * COVERAGE, host(100)),
        extent(NONE, 2 * COVERAGE, 2 * COVERAGE),
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, []),
        (5, 5, []),
        (1, 2, [extent(DATA, 1, 1, host(90) + 1)]),
        (511, 513, [extent(DATA, 511, 2, host(90) + 511)]),
        (
            1000,
            1100,
            [extent(DATA, 1000, 24, host(90) + 1000), extent(PACKED, 1024, 76, 7777)],
        ),
        (1500, 1537, [extent(PACKED, 1500, 36, 7777), extent(NONE, 1536, 1)]),
        (2047, 2049, [extent(NONE, 2047, 1), extent(ZEROS, 2048, 1, host(50))]),
        (2050, 2060, [extent(ZEROS, 2050, 10, host(50) + 2)]),
    ],
)
def test_a_range_is_clipped(start: int, end: int, expected: list[Extent]) -> None:
    values = [host(90), host(91), COMPRESSED | 7777, 0, host(50) | ZERO]
    assert extents(image([values]), start, end) == expected


def test_the_end_of_a_disk_inside_a_cluster_clips() -> None:
    data = put_fields(image([[host(90), host(91)]], bits=9), {"size": 512})
    assert extents(data) == [extent(DATA, 0, 512, host(90))]
    big = put_fields(image([[5 << 16]], bits=16), {"size": 1536})
    assert extents(big) == [extent(DATA, 0, 1536, 5 << 16)]


def test_what_a_table_claims_behind_the_end_of_the_file_is_not_allocated() -> None:
    data = image([[host(90)] * ENTRIES, [host(90)] * ENTRIES])
    second_table = 5 * CLUSTER
    cut = data[: second_table + 8 * 3]
    found = extents(cut)
    assert found[-1] == extent(NONE, COVERAGE + 3 * CLUSTER, COVERAGE - 3 * CLUSTER)
    assert sum(one.length for one in found) == 2 * COVERAGE


def test_a_table_of_which_the_last_entry_is_cut() -> None:
    """What is cut off counts as zeros, and what is there counts."""
    data = image([[host(90), 0x0000_0000_0001_0200]])
    cut = data[: 4 * CLUSTER + 8 + 7]
    assert extents(cut, 0, 2 * CLUSTER)[-1] == extent(DATA, CLUSTER, CLUSTER, 0x10200)
    cut = data[: 4 * CLUSTER + 8 + 6]
    assert extents(cut, 0, 2 * CLUSTER)[-1] == extent(DATA, CLUSTER, CLUSTER, 0x10000)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [(0, NONE, 1), (ZERO, ZEROS, 1), (COMPRESSED | 5, PACKED, 64 * 64), (host(99), DATA, 64 * 64)],
)
def test_one_table_for_all_l1_entries(value: int, kind: ExtentKind, expected: int) -> None:
    """What is alike and has no place in the file is one extent however often it is used."""
    data = bytearray(image([[value] * ENTRIES]))
    l1 = struct.pack(">64Q", *[4 * CLUSTER] * 64)
    data[3 * CLUSTER : 3 * CLUSTER + len(l1)] = l1
    whole = put_fields(bytes(data), {"l1_size": 64, "size": 64 * COVERAGE})
    found = extents(whole)
    assert len(found) == expected
    assert {one.kind for one in found} == {kind}
    assert sum(one.length for one in found) == 64 * COVERAGE
    inner = extents(whole, COVERAGE // 2 + 7, 5 * COVERAGE + 9)
    assert sum(one.length for one in inner) == 4 * COVERAGE + COVERAGE // 2 + 2
    assert {one.kind for one in inner} == {kind}


def test_a_huge_disk_without_tables_is_one_extent() -> None:
    """32 MiB of L1 table are claimed, none of it is in the file."""
    header = put_fields(tiny(cluster_bits=21).data[:112], {"l1_size": 2**22, "size": 2**61})
    assert extents(header) == [extent(NONE, 0, 2**61)]


def test_errors_say_which_entry_and_which_guest_offset() -> None:
    body = tiny(cluster_bits=12)
    data = put(body.data, body.l2 + 8, entry(body.clusters[1] + 512))
    with pytest.raises(MappingError) as caught:
        extents(data, 5000, 5001)
    error = caught.value
    assert (error.offset, error.guest_offset) == (body.l2 + 8, 4096)
    assert error.found == f"{body.clusters[1] + 512:#018x}"
    assert str(error).endswith("(maps guest offset 0x1000)")
    assert extents(data, 0, 4096) == [extent(DATA, 0, 4096, body.clusters[0])]


def test_few_tables_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading with two tables in memory gives what reading with all of them gives."""
    tables: list[list[int] | None] = [[host(200 + 2 * n)] * 3 for n in range(40)]
    data = image(tables)
    whole = extents(data)
    monkeypatch.setattr("qcow2crypt.image.qcow2.tables.CACHE_BYTES", 1)
    cluster_map = map_of(data)
    assert cluster_map.tables.tables_max == 2
    end = GuestOffset(parse_header(data).guest_size)
    assert list(extents_of(cluster_map, 0, end)) == whole
    assert len(cluster_map.tables) <= 2
    back = [
        found
        for n in range(39, -1, -1)
        for found in extents_of(
            cluster_map, GuestOffset(n * COVERAGE), GuestOffset(n * COVERAGE + CLUSTER)
        )
    ]
    assert [found.host_offset for found in back] == [host(200 + 2 * n) for n in range(39, -1, -1)]


def test_threads_may_share_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow2crypt.image.qcow2.tables.CACHE_BYTES", 1)
    data = image([[host(200 + 2 * n)] * 3 for n in range(40)])
    cluster_map = map_of(data)
    end = GuestOffset(parse_header(data).guest_size)
    whole = extents(data)
    results: list[bool] = []

    def walk() -> None:
        for _ in range(5):
            results.append(list(extents_of(cluster_map, 0, end)) == whole)

    threads = [threading.Thread(target=walk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


def entries_of_all_kinds() -> st.SearchStrategy[int]:
    return st.one_of(
        st.just(0),
        st.just(ZERO),
        st.integers(10, 30).map(host),
        st.integers(10, 30).map(lambda n: host(n) | COPIED),
        st.integers(10, 30).map(lambda n: host(n) | ZERO),
        st.integers(0, 2**61 - 1).map(lambda n: COMPRESSED | n),
    )


@given(
    st.lists(
        st.one_of(st.none(), st.lists(entries_of_all_kinds(), max_size=9)), min_size=1, max_size=3
    ),
    st.data(),
)
def test_a_walk_over_a_range_is_the_walk_over_all_clipped(
    tables: list[list[int] | None], data: st.DataObject
) -> None:
    """Byte for byte: kind and host offset do not depend on where a walk begins and ends."""
    packed = image(tables)
    size = parse_header(packed).guest_size
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, min(size, start + 3000)))
    found = extents(packed, start, end)
    position = start
    for one in found:
        assert one.guest_offset == position
        assert one.length > 0
        position += one.length
    assert position == end
    naive = {at: kind_at(packed, at) for at in range(start - start % CLUSTER, end, CLUSTER)}
    for one in found:
        for at in range(one.guest_offset, one.guest_offset + one.length):
            kind, first = naive[at - at % CLUSTER]
            assert one.kind is kind
            if first is None or kind is PACKED:
                assert one.host_offset == first
            else:
                assert one.host_offset is not None
                assert one.host_offset + at - one.guest_offset == first + at % CLUSTER


def kind_at(data: bytes, position: int) -> tuple[ExtentKind, int | None]:
    """The same question, answered the slow way, straight from the document."""
    header = parse_header(data)
    l1_at = header.l1_table_offset + position // COVERAGE * 8
    l2_table = int.from_bytes(data[l1_at : l1_at + 8], "big") & 0x00FF_FFFF_FFFF_FE00
    if not l2_table:
        return NONE, None
    l2_at = l2_table + position % COVERAGE // CLUSTER * 8
    value = int.from_bytes(data[l2_at : l2_at + 8].ljust(8, b"\0"), "big")
    if value & COMPRESSED:
        return PACKED, value & (2**61 - 1)
    offset = value & 0x00FF_FFFF_FFFF_FE00
    if value & 1:
        return ZEROS, offset or None
    return (DATA, offset) if offset else (NONE, None)
