"""What lies where in a file: regions held against the census of ``check`` and against extents."""

from __future__ import annotations

import io
import random

import golden
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.claims import check_claims, opened

import qcow2crypt
from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.explaining.filemap import FileMap, file_map, map_file, region_at
from qcow2crypt.explaining.regions import Claim, Region, RegionKind, regions_of
from qcow2crypt.image.hostfile import Source
from qcow2crypt.testing.damage.hostile import WHOLE
from qcow2crypt.testing.damage.tiny import entry, put, tiny

QCOW2 = tuple(name for name in golden.NAMES if name.endswith(".qcow2"))
QCOW = tuple(name for name in golden.NAMES if ".qcow" in name)
NO_CLAIM = (RegionKind.REST, RegionKind.UNREFERENCED)


def map_of(source: Source) -> FileMap:
    with opened(source) as layer:
        found = file_map(layer.file, layer.structure)
    assert map_file(source) == found
    return found


@pytest.mark.parametrize("name", QCOW)
def test_regions_follow_one_another(name: str) -> None:
    found = map_of(golden.load(name).path)
    assert found.complete
    assert found.problems == ()
    ends = [0, *(region.end for region in found.regions)]
    assert [region.host_offset for region in found.regions] == ends[:-1]
    assert ends[-1] == found.file_size
    assert all(bool(region.claims) is (region.kind not in NO_CLAIM) for region in found.regions)


@pytest.mark.parametrize("name", QCOW2)
def test_claims_are_what_a_check_counts(name: str) -> None:
    check_claims(golden.load(name).path)


def test_claims_on_snapshots_and_bitmaps() -> None:
    check_claims(io.BytesIO(WHOLE))
    found = {
        (one.kind.value, one.host_offset, one.length) for one in map_of(io.BytesIO(WHOLE)).regions
    }
    assert {
        ("snapshot table", 7 * 512, 64),
        ("L1 table", 8 * 512, 8),
        ("bitmap directory", 9 * 512, 32),
        ("bitmap table", 10 * 512, 8),
    } <= found


@pytest.mark.parametrize("name", [name for name in golden.READABLE if ".qcow" in name])
def test_there_and_back_again(name: str) -> None:
    image = golden.load(name)
    found = map_of(image.path)
    with opened(image.path) as layer:
        file, structure = layer.file, layer.structure
        with qcow2crypt.open(image.path, secret=image.secret or b"", external="any") as disk:
            there = file.size  # QEMU writes the last cluster of a file as far as it has data
            extents = [one for one in disk.own_extents() if 0 < (one.host_offset or 0) < there]
        choose = random.Random(name)
        for extent in choose.sample(extents, min(8, len(extents))):
            assert extent.host_offset is not None
            region = region_at(file, structure, extent.host_offset).region
            inside = {
                (
                    snapshot,
                    offset
                    + (
                        0
                        if region.kind is RegionKind.COMPRESSED
                        else extent.host_offset - region.host_offset
                    ),
                )
                for snapshot, offset in region.guest_offsets()
            }
            assert (None, extent.guest_offset) in inside
        for host in choose.sample(range(found.file_size), 12):
            place = region_at(file, structure, host)
            whole = next(one for one in found.regions if one.host_offset <= host < one.end)
            assert place.region.kind is whole.kind
            assert set(place.region.claims) == set(whole.claims)
            assert place.region.refcount == whole.refcount or whole.length > found.cluster_size
            assert place.region.host_offset <= host < place.region.end


def test_leaked_and_free_clusters_are_told_apart() -> None:
    image = tiny(3, 9)
    data = put(image.data, 1024 + 2 * 20, b"\0\1") + bytes(16 * 512)
    regions = [
        one
        for one in map_of(io.BytesIO(data)).regions
        if one.refcount != 1 or one.host_offset > 9728
    ]
    assert [(one.kind.value, one.host_offset, one.length, one.refcount) for one in regions] == [
        ("unreferenced", 3584, 6656, 0),
        ("unreferenced", 10240, 512, 1),
        ("unreferenced", 10752, len(data) - 10752, 0),
    ]


def test_the_same_place_claimed_twice() -> None:
    image = tiny(3, 9)
    data = put(image.data, image.l2 + 16, entry(image.clusters[0]))
    with opened(io.BytesIO(data)) as layer:
        region = region_at(layer.file, layer.structure, image.clusters[0] + 5).region
    assert region.guest_offsets() == ((None, 0), (None, 1024))


def test_outside_the_file() -> None:
    with (
        opened(io.BytesIO(tiny(3, 9).data)) as layer,
        pytest.raises(ArgumentError, match="not inside"),
    ):
        region_at(layer.file, layer.structure, len(tiny(3, 9).data))


def test_formats_that_cannot_be_mapped() -> None:
    path = golden.load("standalone-aes128cbc-essiv.luks").path
    with pytest.raises(UnsupportedFeatureError, match="images of format luks"):
        map_file(path)
    assert map_file(path, format="raw").regions[0].kind is RegionKind.DATA


def test_a_raw_image_is_data() -> None:
    with opened(io.BytesIO(b"raw" * 1000)) as layer:
        place = region_at(layer.file, layer.structure, 700)
    assert place.region.guest_offsets() == ((None, 0),)
    assert place.region.kind is RegionKind.DATA


def test_too_many_claims_give_a_map_that_says_so() -> None:
    with opened(io.BytesIO(tiny(3, 9).data)) as layer:
        found = file_map(layer.file, layer.structure, claims_max=3)
    assert not found.complete
    assert {one.kind for one in found.regions} >= {RegionKind.HEADER, RegionKind.NOT_LOOKED_AT}
    assert RegionKind.UNREFERENCED not in {one.kind for one in found.regions}
    assert "not the whole map" in found.problems[0]


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=8)


@given(ranges, st.integers(1, 64))
def test_regions_against_bytes(ranges: list[tuple[int, int]], end: int) -> None:
    """The slow twin: for each byte, which claims hold it."""
    size = 8
    claims = [Claim(RegionKind.DATA, at, length, str(n)) for n, (at, length) in enumerate(ranges)]
    regions = list(regions_of(claims, 0, end, size))
    assert sum(region.length for region in regions) == end
    for byte in range(end):
        region = next(one for one in regions if one.host_offset <= byte < one.end)
        holding = {claim for claim in claims if claim.host_offset <= byte < claim.end}
        assert set(region.claims) == holding
        if not holding:
            cluster = range(byte - byte % size, min(byte - byte % size + size, end))
            touched = any(
                c.host_offset < cluster.stop and cluster.start < c.end and c.length for c in claims
            )
            assert region.kind is (RegionKind.REST if touched else RegionKind.UNREFERENCED)


def test_many_claims_of_one_region_are_cut() -> None:
    claims = [Claim(RegionKind.DATA, 0, 10, str(number)) for number in range(100)]
    assert [(len(r.claims), r.claims_left_off) for r in regions_of(claims, 0, 10, 1)] == [(64, 36)]


def test_a_region_as_data() -> None:
    claim = Claim(RegionKind.DATA, 8, 8, "snapshot 1 'a'", 512, "1")
    region = Region(RegionKind.DATA, 8, 8, (claim,), refcount=2)
    assert region.to_dict() == {
        "kind": "data", "host_offset": 8, "length": 8, "refcount": 2, "claims_left_off": 0,
        "claims": [{"kind": "data", "host_offset": 8, "length": 8, "about": "snapshot 1 'a'",
                    "guest_offset": 512, "snapshot": "1"}],
    }  # fmt: skip
