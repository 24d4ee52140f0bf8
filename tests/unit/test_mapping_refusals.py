"""Entries that a map refuses, with their place, and the map of an external data file."""

from __future__ import annotations

import io

import pytest
from support.mapped import image

from qcow2crypt.errors import MappingError
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.extents import CompressedRun, Run, extents_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, parse_header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.testing.damage.rows_subclusters import ALL, SIZE, extended
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, ZERO, put_fields

DATA, ZEROS, NONE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED
CLUSTER = 512
COVERAGE = CLUSTER * CLUSTER // 8
L2 = 4 * CLUSTER  # where image() puts the first table


def map_of(data: bytes) -> ClusterMap:
    return ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))


def kinds(data: bytes, end: int) -> list[tuple[ExtentKind, int, int | None]]:
    return [(one.kind, one.length, one.host_offset) for one in extents_of(map_of(data), 0, end)]


def external(*entries: int) -> bytes:
    return put_fields(image([list(entries)]), {"incompatible_features": INCOMPAT_DATA_FILE})


def refused(data: bytes, position: int) -> MappingError:
    with pytest.raises(MappingError) as caught:
        map_of(data).run_at(position, position + 1)
    return caught.value


def test_an_external_data_file_has_a_cluster_at_offset_0() -> None:
    entries = (COPIED, CLUSTER | COPIED, 2 * CLUSTER, 0, 4 * CLUSTER | ZERO, ZERO, 6 * CLUSTER)
    assert kinds(external(*entries), 8 * CLUSTER) == [
        (DATA, 3 * CLUSTER, 0),
        (NONE, CLUSTER, None),
        (ZEROS, CLUSTER, 4 * CLUSTER),
        (ZEROS, CLUSTER, None),
        (DATA, CLUSTER, 6 * CLUSTER),
        (NONE, CLUSTER, None),
    ]


def test_without_one_there_is_no_cluster_at_offset_0() -> None:
    assert kinds(image([[COPIED, COPIED]]), 3 * CLUSTER) == [(NONE, 3 * CLUSTER, None)]


def test_in_an_external_data_file_every_cluster_lies_at_its_guest_offset() -> None:
    error = refused(external(COPIED, CLUSTER, 3 * CLUSTER), 2 * CLUSTER + 5)
    assert "every cluster lies at its guest offset" in str(error)
    assert error.allowed == "host offset 0x400"
    assert error.found == "0x0000000000000600"
    assert (error.offset, error.guest_offset) == (L2 + 16, 2 * CLUSTER)


def test_in_an_external_data_file_only_the_first_cluster_lies_at_offset_0() -> None:
    error = refused(external(COPIED, COPIED, COPIED | ZERO), CLUSTER + 5)
    assert (error.allowed, error.found) == ("host offset 0x200", f"{COPIED:#018x}")
    assert (error.offset, error.guest_offset) == (L2 + 8, CLUSTER)
    run = map_of(external(COPIED, COPIED, COPIED | ZERO)).run_at(2 * CLUSTER, 3 * CLUSTER)
    assert (run.kind, run.host) == (ZEROS, None)
    data = extended((COPIED, ALL), (COPIED | ZERO, ALL << 32), (0, ALL << 32), (0, 1))
    both = put_fields(data, {"incompatible_features": 16 | INCOMPAT_DATA_FILE})
    assert map_of(both).run_at(5, 3 * SIZE).host == 5
    assert refused(both, SIZE).allowed == f"host offset {SIZE:#x}"
    assert map_of(both).run_at(2 * SIZE, 4 * SIZE) == Run(ZEROS, None, 3 * SIZE)
    assert "subclusters contradict each other" in str(refused(both, 3 * SIZE))


def test_an_external_data_file_holds_no_compressed_cluster() -> None:
    error = refused(external(COPIED, COMPRESSED | 512), CLUSTER)
    assert "compressed cluster in an image with an external data file" in str(error)
    assert (error.offset, error.guest_offset) == (L2 + 8, CLUSTER)


@pytest.mark.parametrize("entry", [ZERO, 90 * CLUSTER | ZERO])
def test_version_2_has_no_zero_flag(entry: int) -> None:
    data = put_fields(image([[0, 0, entry]]), {"version": 2})
    error = refused(data, 2 * CLUSTER)
    assert "zero flag in a version 2 image" in str(error)
    assert error.allowed == "bit 0 clear"
    assert (error.offset, error.guest_offset) == (L2 + 16, 2 * CLUSTER)
    assert map_of(data).run_at(0, 2 * CLUSTER).kind is NONE


def test_an_l1_entry_that_is_not_aligned() -> None:
    data = bytearray(image([[0], [0]], bits=12))
    data[3 * 4096 + 8 : 3 * 4096 + 16] = (COPIED | 5 * 4096 + 512).to_bytes(8, "big")
    error = refused(bytes(data), 4096 * 512 + 9)
    assert str(error).count("L1 entry 1") == 1
    assert (error.offset, error.guest_offset) == (3 * 4096 + 8, 4096 * 512)
    assert error.found == f"{COPIED | 5 * 4096 + 512:#018x}"
    assert error.allowed == "a host offset that is a multiple of 0x1000"
    assert map_of(bytes(data)).run_at(0, 1).kind is NONE


def test_an_extended_entry_that_is_not_aligned() -> None:
    error = refused(extended((SIZE + 512, ALL)), 7)
    assert error.allowed == f"a host offset that is a multiple of {SIZE:#x}"
    assert error.found == f"{SIZE + 512:#018x}"


def test_compressed_clusters_are_given_with_their_lengths_up_to_one_that_is_not() -> None:
    values = [COMPRESSED | 5000, COMPRESSED | 1 << 61 | 6000, COMPRESSED | 7168, 90 * CLUSTER]
    runs = [CompressedRun(5000, 120), CompressedRun(6000, 144 + 512), CompressedRun(7168, 512)]
    found = map_of(image([[0, *values]]))
    assert found.compressed_runs(CLUSTER, 5 * CLUSTER) == runs
    assert found.compressed_runs(CLUSTER, 9 * CLUSTER) == runs
    assert found.compressed_runs(CLUSTER, 3 * CLUSTER) == runs[:2]
    assert found.compressed_runs(CLUSTER, 2 * CLUSTER + 1) == runs[:2]
    assert found.compressed_runs(2 * CLUSTER + 7, 3 * CLUSTER) == runs[1:2]


def test_compressed_clusters_among_extended_entries() -> None:
    packed = [COMPRESSED | 5000, COMPRESSED | 6000]
    found = map_of(extended(*((value, 0) for value in packed)))
    assert [run.host_offset for run in found.compressed_runs(0, 2 * SIZE)] == [5000, 6000]
    assert [run.host_offset for run in found.compressed_runs(SIZE, 2 * SIZE)] == [6000]
    run = found.run_at(SIZE + 3, 4 * SIZE)
    assert (run.kind, run.host, run.stop) == (ExtentKind.COMPRESSED, 6000, 2 * SIZE)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 64])
@pytest.mark.parametrize("flags", [0, COPIED])
def test_a_table_that_grows_ends_where_it_does(length: int, flags: int) -> None:
    """One comparison for all of it, and one after the other, find the same end."""
    grown = [(90 + n) * CLUSTER | flags for n in range(64)]
    for odd in (None, 0, length // 2, length - 1):
        entries = grown[:length]
        if odd is not None:
            entries[odd] ^= COPIED  # says nothing about the place
        data = image([[*entries, *[0] * (64 - length)]])
        assert kinds(data, COVERAGE)[0] == (DATA, length * CLUSTER, 90 * CLUSTER)
    for odd in range(1, min(length, 8)):
        entries = grown[:length]
        entries[odd] += 3 * CLUSTER
        assert kinds(image([entries]), COVERAGE)[0] == (DATA, odd * CLUSTER, 90 * CLUSTER)
