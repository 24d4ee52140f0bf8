"""One step of a map: where a run stops, and what it says, for all short rows of entries."""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import product

import pytest
from support.mapped import image

from qcow2crypt.image.extents import ExtentKind, Run, extents_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, parse_header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.testing.damage.rows_subclusters import ALL, BODY, SIZE, SUB, extended
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, ZERO, put_fields

DATA, ZEROS, NONE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED
CLUSTER = 512
ENTRIES = CLUSTER // 8
COVERAGE = CLUSTER * ENTRIES
TABLE = 4 * CLUSTER  # where image() puts the first one

Unit = tuple[ExtentKind, int | None]


def map_of(data: bytes) -> ClusterMap:
    return ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))


def external(tables: list[list[int] | None]) -> ClusterMap:
    return map_of(put_fields(image(tables), {"incompatible_features": INCOMPAT_DATA_FILE}))


def shared(*entries: int, times: int = 3) -> ClusterMap:
    """A map with one table of ``entries`` and zeros in several places, and an empty table."""
    found = map_of(image([list(entries), *[[0]] * times]))
    found.l1[1:times] = array("Q", [TABLE] * (times - 1))
    return found


def told(units: Sequence[Unit], unit: int, ends: Iterable[int], position: int, end: int) -> Run:
    """The run at ``position``, unit by unit.  At ``ends`` a run stops whatever comes behind."""
    at = position // unit
    kind, host = units[at]
    shift = position - at * unit
    first = host if host is None or kind is ExtentKind.COMPRESSED else host + shift
    while (at + 1) * unit < end and at + 1 not in ends:
        host = None if host is None else host + unit
        if units[at + 1] != (kind, host):
            break
        at += 1
    return Run(kind, first, min((at + 1) * unit, end))


def ranges(borders: Sequence[int]) -> list[tuple[int, int]]:
    places = sorted({place + by for place in borders for by in (-1, 0, 1) if place + by >= 0})
    return [(start, end) for start in places for end in places if start < end <= borders[-1]]


def test_all_rows_of_standard_entries() -> None:
    def said(n: int) -> dict[int, Unit]:
        grown = (90 + n) * CLUSTER
        return {
            0: (NONE, None),
            ZERO: (ZEROS, None),
            grown: (DATA, grown),
            grown | COPIED | 2: (DATA, grown),
            grown | ZERO: (ZEROS, grown),
            70 * CLUSTER: (DATA, 70 * CLUSTER),
            COMPRESSED | grown: (ExtentKind.COMPRESSED, grown),
        }

    found = map_of(image([[]]))
    for row in product(*(said(n).items() for n in range(3))):
        found.tables.edit(TABLE)[:3] = array("Q", [entry for entry, _ in row])
        units = [unit for _, unit in row]
        ends = [n + 1 for n, (kind, _) in enumerate(units) if kind is ExtentKind.COMPRESSED]
        for position, end in ranges([0, CLUSTER, 2 * CLUSTER, 3 * CLUSTER]):
            assert found.run_at(position, end) == told(units, CLUSTER, ends, position, end)


def test_all_rows_of_extended_entries() -> None:
    uniform = {0: NONE, ALL: DATA, ALL << 32: ZEROS}
    mixed = {1: (DATA, 1), 1 << 31: (NONE, 31), 2 << 32: (NONE, 1)}  # the kind of how many first
    rest = {1: [(NONE, 31)], 1 << 31: [(DATA, 1)], 2 << 32: [(ZEROS, 1), (NONE, 30)]}

    def kinds(bitmap: int) -> list[ExtentKind]:
        if bitmap in uniform:
            return [uniform[bitmap]] * 32
        return [kind for kind, count in (mixed[bitmap], *rest[bitmap]) for _ in range(count)]

    def said(n: int) -> list[tuple[int, int, int | None]]:
        grown = (90 + n) * SIZE
        return [
            *((0, bitmap, None) for bitmap in (0, ALL << 32, 2 << 32)),
            *((grown, bitmap, grown) for bitmap in (*uniform, *mixed)),
            (grown | COPIED | 1, ALL, grown),
            (70 * SIZE, ALL, 70 * SIZE),
        ]

    found = map_of(extended())
    for row in product(*(said(n) for n in range(2))):
        flat = [word for entry, bitmap, _ in row for word in (entry, bitmap)]
        found.tables.edit(BODY.l2)[:4] = array("Q", flat)
        units = [
            (kind, None if host is None else host + n * SUB)
            for _, bitmap, host in row
            for n, kind in enumerate(kinds(bitmap))
        ]
        goes_on = row[0][1] == row[1][1] and row[0][1] in uniform
        ends = [] if goes_on else [32]
        for position, end in ranges([0, SUB, 31 * SUB, SIZE, SIZE + SUB, 2 * SIZE]):
            assert found.run_at(position, end) == told(units, SUB, ends, position, end)


@pytest.mark.parametrize("length", range(1, 9))
def test_runs_of_whole_extended_clusters(length: int) -> None:
    rows = {
        (0, 0): Run(NONE, None, length * SIZE),
        (0, ALL << 32): Run(ZEROS, None, length * SIZE),
        (90 * SIZE, ALL): Run(DATA, 90 * SIZE, length * SIZE),
        (90 * SIZE, 0): Run(NONE, 90 * SIZE, length * SIZE),
    }
    for (host, bitmap), run in rows.items():
        row = [(host + n * SIZE if host else 0, bitmap) for n in range(length)]
        found = map_of(extended((70 * SIZE, ALL), *row, (50 * SIZE, ALL)))
        assert found.run_at(SIZE, 10 * SIZE) == run._replace(stop=run.stop + SIZE)
        assert found.run_at(SIZE, length * SIZE + 700) == run._replace(stop=length * SIZE + 700)


@pytest.mark.parametrize("flags", [(0, 0), (COPIED, COPIED), (COPIED, 0)])
def test_a_run_goes_on_up_to_the_entry_that_does_not_follow(flags: tuple[int, int]) -> None:
    row = [(90 + n) * CLUSTER | flags[n % 2] for n in range(ENTRIES)]
    found = map_of(image([row]))
    for first in (0, 1, 57, 62, 63):
        for last in range(first + 1, ENTRIES + 1):
            run = found.run_at(first * CLUSTER + 5, last * CLUSTER)
            assert run == Run(DATA, (90 + first) * CLUSTER + 5, last * CLUSTER)
    for odd in range(1, ENTRIES):
        changed = map_of(image([[*row[:odd], row[odd] + CLUSTER, *row[odd + 1 :]]]))
        assert changed.run_at(0, COVERAGE) == Run(DATA, 90 * CLUSTER, odd * CLUSTER)


def test_no_run_goes_on_past_the_largest_host_offset() -> None:
    """Bit 56 is no bit of the host offset: the entry behind that says 0."""
    last = 2**56 - CLUSTER
    found = map_of(image([[last + n * CLUSTER for n in range(ENTRIES)]]))
    assert found.run_at(0, COVERAGE) == Run(DATA, last, CLUSTER)
    assert found.run_at(CLUSTER, 2 * CLUSTER) == Run(NONE, None, 2 * CLUSTER)


def test_in_an_external_data_file_a_run_goes_on_from_offset_0() -> None:
    found = external([[n * CLUSTER | COPIED for n in range(ENTRIES)], [0]])
    assert found.run_at(0, 2 * COVERAGE) == Run(DATA, 0, COVERAGE)
    assert found.run_at(7, 600) == Run(DATA, 7, 600)


@pytest.mark.parametrize(("entry", "kind"), [(0, NONE), (ZERO, ZEROS)])
def test_tables_that_say_one_thing_are_one_run(entry: int, kind: ExtentKind) -> None:
    found = shared(*[entry] * ENTRIES)
    assert found.run_at(0, 4 * COVERAGE) == Run(kind, None, 3 * COVERAGE)
    assert found.run_at(COVERAGE, 4 * COVERAGE) == Run(kind, None, 3 * COVERAGE)
    assert found.run_at(0, 2 * COVERAGE + 1) == Run(kind, None, 2 * COVERAGE + 1)
    for position in (1, 2, 256, CLUSTER, COVERAGE // 2, COVERAGE - 1):
        assert found.run_at(position, 4 * COVERAGE) == Run(kind, None, COVERAGE)
        assert found.run_at(position + COVERAGE, 4 * COVERAGE).stop == 2 * COVERAGE


def test_a_table_that_says_more_than_one_thing_is_never_skipped() -> None:
    empty_behind = shared(90 * CLUSTER)
    assert empty_behind.run_at(CLUSTER, 4 * COVERAGE) == Run(NONE, None, COVERAGE)
    assert empty_behind.run_at(COVERAGE, 4 * COVERAGE).kind is DATA
    data_behind = shared(*[0] * (ENTRIES - 1), 90 * CLUSTER)
    assert data_behind.run_at(0, 4 * COVERAGE) == Run(NONE, None, COVERAGE - CLUSTER)


def test_a_table_of_data_is_one_run_for_each_time_it_is_used() -> None:
    found = shared(*[(90 + n) * CLUSTER for n in range(ENTRIES)])
    assert found.run_at(0, 4 * COVERAGE) == Run(DATA, 90 * CLUSTER, COVERAGE)


def test_where_there_is_no_table() -> None:
    found = map_of(image([None, None, [90 * CLUSTER], None]))
    assert found.run_at(5, 4 * COVERAGE) == Run(NONE, None, 2 * COVERAGE)
    assert found.run_at(5, 7) == Run(NONE, None, 7)
    assert found.run_at(3 * COVERAGE + 5, 4 * COVERAGE) == Run(NONE, None, 4 * COVERAGE)
    for position in range(4 * COVERAGE, 9 * COVERAGE, COVERAGE):
        assert found.run_at(position, 9 * COVERAGE) == Run(NONE, None, 9 * COVERAGE)


def test_an_l1_entry_of_0_names_no_table() -> None:
    """Whatever cluster 0 of the file has behind the header."""
    data = bytearray(image([None, [90 * CLUSTER]]))
    data[CLUSTER // 2 : CLUSTER] = struct.pack(">Q", COMPRESSED | 90 * CLUSTER) * (ENTRIES // 2)
    runs = map_of(bytes(data)).runs_at(COVERAGE // 2, 2 * COVERAGE)
    assert list(runs) == [Run(NONE, None, COVERAGE)]


def joined(found: ClusterMap, start: int, end: int) -> list[Run]:
    """The extents of a range, as runs."""
    return [
        Run(one.kind, one.host_offset, one.guest_offset + one.length)
        for one in extents_of(found, start, end)
    ]


def test_compressed_neighbours_are_found_at_once() -> None:
    found = map_of(image([[*(COMPRESSED | 5000 + 600 * n for n in range(3)), 90 * CLUSTER]]))
    runs = [Run(ExtentKind.COMPRESSED, 5000 + 600 * n, (n + 1) * CLUSTER) for n in range(3)]
    assert joined(found, 0, 3 * CLUSTER) == runs
    assert joined(found, 7, CLUSTER) == runs[:1]
    assert joined(found, CLUSTER, 2 * CLUSTER + 1) == [
        runs[1],
        runs[2]._replace(stop=2 * CLUSTER + 1),
    ]
    assert list(found.runs_at(0, COVERAGE)) == runs[:1]
    assert list(found.runs_at(3 * CLUSTER, COVERAGE)) == [Run(DATA, 90 * CLUSTER, 4 * CLUSTER)]


def test_an_external_data_file_over_many_tables() -> None:
    rows = [[(64 * t + n) * CLUSTER | COPIED for n in range(ENTRIES)] for t in range(12)]
    found = external([*rows])
    position = 0
    while position < 12 * COVERAGE:
        for kind, host, stop in found.runs_at(position, 12 * COVERAGE):
            assert (kind, host) == (DATA, position)
            position = stop
