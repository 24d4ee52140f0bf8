"""Runs in many L2 tables at once: the same as table by table, and what a change makes of them."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mapped import image

import qcow2crypt
from qcow2crypt.errors import MappingError, Qcow2CryptError, SourceError
from qcow2crypt.image.base import Extent
from qcow2crypt.image.extents import Stretch, as_stretches, extents_of, stretches_of
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2 import manytables
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, ZERO, put_fields

CLUSTER = 512
ENTRIES = CLUSTER // 8
COVERAGE = CLUSTER * ENTRIES


@st.composite
def tables(draw: st.DrawFn, size: int) -> list[int] | None:
    """One L2 table; most are as a disk that was filled from the start has them."""
    kind = draw(st.sampled_from(("row", "row", "two rows", "none", "zeros", "short", "mixed")))
    first = draw(st.integers(4, 1 << 20)) * size | draw(st.sampled_from((COPIED, COPIED, 0)))
    row = [first + number * size for number in range(size // 8)]
    cut = draw(st.integers(0, len(row)))
    if kind == "none":
        return None
    if kind == "zeros":
        return [0] * len(row)
    if kind == "two rows":
        return row[:cut] + [entry + size for entry in row[cut:]]
    if kind == "short":
        return row[:cut] + [0] * (len(row) - cut)
    if kind == "mixed":
        odd = draw(st.sampled_from((0, ZERO, COMPRESSED | 5, 1 << 56, 1 << 3, size // 2 | COPIED)))
        for at in draw(st.sets(st.integers(0, len(row) - 1), max_size=5)):
            row[at] = draw(st.sampled_from((0, odd, row[at] ^ COPIED, row[0])))
    return row


@st.composite
def images(draw: st.DrawFn) -> bytes:
    bits = draw(st.sampled_from((9, 9, 10)))
    count = draw(st.integers(1, 64))
    some = [draw(tables(1 << bits)) for _ in range(draw(st.integers(1, 6)))]
    places = draw(st.lists(st.integers(0, len(some) - 1), min_size=count, max_size=count))
    return image([some[place] for place in places], bits)


def found(cluster_map: ClusterMap, start: int, end: int) -> tuple[list[Extent], str]:
    """The extents, as far as they go, and what ended them."""
    extents: list[Extent] = []
    try:
        extents.extend(extents_of(cluster_map, start, end))
    except MappingError as error:
        before = max(start, error.guest_offset)
        return list(extents_of(cluster_map, start, before)), str(error)
    return extents, ""


@given(images(), st.data())
def test_the_same_as_table_by_table(data: bytes, draw: st.DataObject) -> None:
    """Whatever is in the tables, whichever range is asked for; errors, too."""
    header = parse_header(data)
    end = header.guest_size // 512
    first = draw.draw(st.integers(0, end - 1))
    last = draw.draw(st.integers(first + 1, end))
    many, single = (ClusterMap(HostFile(io.BytesIO(data)), header) for _ in range(2))
    single._many = None
    for start, stop in ((0, header.guest_size), (first * 512, last * 512)):
        assert found(many, start, stop) == found(single, start, stop)


@given(images())
def test_stretches_are_extents_with_less_said(data: bytes) -> None:
    header = parse_header(data)
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), header)
    extents, _ = found(cluster_map, 0, header.guest_size)
    end = extents[-1].guest_offset + extents[-1].length if extents else 0
    stretches = list(stretches_of(cluster_map, 0, end))
    assert stretches == list(as_stretches(0, extents))
    bounds = [one.guest_offset for one in extents]
    assert [start for one in stretches for start in one.bounds[:-1]] == bounds
    for one in stretches:
        inside = [e for e in extents if one.bounds[0] <= e.guest_offset < one.bounds[-1]]
        assert {e.reads_as_zero for e in inside} == {one.reads_as_zero}


def test_what_precedes_an_error_comes_before_it() -> None:
    """Stretches go as far as extents do."""
    row = [(100 + number) * CLUSTER | COPIED for number in range(ENTRIES)]
    data = image(
        [row, None, row, row, [row[0], ZERO, COMPRESSED | 5]] + [row] * 20 + [[1 << 9 | 256]]
    )
    data = put_fields(data, {"version": 2, "header_length": 0})  # where the zero flag may not be
    header = parse_header(data)
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), header)
    extents: list[Extent] = []
    with pytest.raises(MappingError) as first:
        extents.extend(extents_of(cluster_map, 0, header.guest_size))
    stretches: list[Stretch] = []
    with pytest.raises(MappingError) as second:
        stretches.extend(stretches_of(cluster_map, 0, header.guest_size))
    assert str(first.value) == str(second.value)
    seen = [start for one in stretches for start in one.bounds[:-1]]
    assert seen == [one.guest_offset for one in extents]
    assert len(seen) > 2


def test_a_whole_window_is_one_step() -> None:
    """A disk that was filled from the start is not walked table by table."""
    row = [(100 + number) * CLUSTER | COPIED for number in range(ENTRIES)]
    data = image([row] * 64)
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))
    assert len(cluster_map.runs_at(0, 64 * COVERAGE)) == 64
    assert len(cluster_map.runs_at(5, 20 * COVERAGE)) == 20
    assert len(cluster_map.runs_at(0, COVERAGE)) == 1
    assert len(cluster_map.tables) == 1  # that one alone was looked up for itself


@pytest.mark.parametrize("seed", range(4))
def test_writes_are_seen(seed: int, tmp_path: Path) -> None:
    """Reads of a whole disk before and after writes, snapshots and discards of an open image."""
    noise = random.Random(seed)
    path, size = tmp_path / "disk.qcow2", 64 * COVERAGE
    model = bytearray(noise.randbytes(size // 2).ljust(size, b"\0"))
    (tmp_path / "raw").write_bytes(model)
    options = Qcow2Options(cluster_size=CLUSTER, encryption="aes")
    qcow2crypt.convert(
        tmp_path / "raw", path, target_format="qcow2", target_secret="key", options=options
    )
    kept: dict[str, bytes] = {}
    for step in range(25):
        # Opened anew, all tables are as in the file, and what they say is kept from the first read.
        with qcow2crypt.open(path, mode="r+", secret="key") as disk:
            for action in noise.choices(("write", "zeros", "discard", "flush", "keep"), k=3):
                assert disk.pread(size, 0) == model, step
                offset = noise.randrange(size // 512) * 512
                length = min(noise.choice((512, 4096, 1 << 16, 1 << 20)), size - offset)
                if action == "write":
                    content = noise.randbytes(length)
                    disk.pwrite(content, offset)
                    model[offset : offset + length] = content
                elif action in ("zeros", "discard"):
                    disk.write_zeroes(offset, length, unmap=action == "discard")
                    model[offset : offset + length] = bytes(length)
                elif action == "flush":
                    disk.flush()
                elif len(kept) < 3:
                    kept[disk.create_snapshot(f"at {step}").id] = bytes(model)
                elif noise.random() < 0.5:
                    one = noise.choice(sorted(kept))
                    disk.apply_snapshot(one)
                    model[:] = kept[one]
                assert disk.pread(size, 0) == model, (step, action)


def test_another_l1_table_is_seen() -> None:
    """The writer changes the L1 table, or puts another in its place."""
    rows = [[(100 * n + at) * CLUSTER | COPIED for at in range(ENTRIES)] for n in range(1, 17)]
    data = image([*rows])
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))
    end = 16 * COVERAGE
    before = list(extents_of(cluster_map, 0, end))
    cluster_map.l1[3] = cluster_map.l1[7]
    changed = list(extents_of(cluster_map, 0, end))
    assert changed[3].host_offset == before[7].host_offset
    assert changed[4:] == before[4:]
    cluster_map.l1 = cluster_map.l1[::-1]
    assert next(extents_of(cluster_map, 0, end)).host_offset == before[15].host_offset


class _Broken(io.BytesIO):
    """A file with a place that cannot be read."""

    bad = range(0)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        if self.tell() < self.bad.stop and self.tell() + view.nbytes > self.bad.start:
            raise OSError(5, "Input/output error")
        return super().readinto(view)


def test_an_unreadable_table_keeps_none_from_being_read() -> None:
    row = [(100 + number) * CLUSTER | COPIED for number in range(ENTRIES)]
    data = image([row] * 64)
    file = _Broken(data)
    cluster_map = ClusterMap(HostFile(file), parse_header(data))
    _Broken.bad = range((4 + 40) * CLUSTER, (4 + 41) * CLUSTER)
    end = 64 * COVERAGE
    with pytest.raises(SourceError, match=f"host offset {_Broken.bad.start:#x}"):
        list(extents_of(cluster_map, 0, end))
    assert len(list(extents_of(cluster_map, 0, 40 * COVERAGE))) == 40
    assert len(list(extents_of(cluster_map, 41 * COVERAGE, end))) == 23


def test_few_windows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manytables, "_WINDOWS_MAX", 2)
    monkeypatch.setattr(manytables, "_ENTRIES_AT_ONCE", 8 * ENTRIES)
    data = image([[(100 + number) * CLUSTER for number in range(ENTRIES)]] * 64)
    cluster_map = ClusterMap(HostFile(io.BytesIO(data)), parse_header(data))
    assert len(list(extents_of(cluster_map, 0, 64 * COVERAGE))) == 64
    assert cluster_map._many is not None
    assert len(cluster_map._many._kept) == 2


def test_the_errors_are_ours(tmp_path: Path) -> None:
    """A closed image says so, and nothing else comes up."""
    path = tmp_path / "disk.qcow2"
    qcow2crypt.create(path, 64 * COVERAGE, options=Qcow2Options(cluster_size=CLUSTER))
    disk = qcow2crypt.open(path)
    disk.close()
    with pytest.raises(Qcow2CryptError):
        disk.pread(512, 0)
    with pytest.raises(Qcow2CryptError):
        list(disk.stretches())
