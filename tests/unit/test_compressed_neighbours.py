"""Compressed clusters that follow one another are found in one step: same extents, same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.whole_image import CLUSTER, DISK, FILE, SECRET

import qcow2crypt
from qcow2crypt.image import extents
from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.fresh.compressing import compressor
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.options import Qcow2Options

OPTIONS = Qcow2Options(cluster_size=CLUSTER)
SHORTER = compressor(OPTIONS)


def image_of(kinds: str, path: Path, less: int = 0) -> bytes:
    """An image of packed and stored clusters and holes, ``less`` sectors short; gives its disk."""
    disk = b"".join(
        bytes([0 if kind == "." else number % 255 + 1]) * CLUSTER
        for number, kind in enumerate(kinds)
    )
    path.unlink(missing_ok=True)
    qcow2crypt.create(path, len(disk) - less * 512, options=OPTIONS)
    with qcow2crypt.open(path, mode="r+") as image:
        assert isinstance(image, Qcow2Editor)
        for number, kind in enumerate(kinds):
            start = number * CLUSTER
            if kind == "d":
                image.pwrite(disk[start : min(start + CLUSTER, image.size)], start)
            elif kind == "p":
                image.write_compressed(SHORTER(disk[start : start + CLUSTER]), start)
    return disk[: len(disk) - less * 512]


def only_one(
    many: Callable[[ClusterMap, int, int], list[CompressedRun]],
) -> Callable[[ClusterMap, int, int], list[CompressedRun]]:
    """The slow twin: no neighbours are told."""
    return lambda self, position, end: many(self, position, end)[:1]


@given(
    kinds=st.text("ppppd.", min_size=1, max_size=40),
    less=st.integers(0, 7),
    start=st.integers(0, 320),
    joined=st.integers(1, 40),
)
def test_joined_and_single(
    tmp_path_factory: pytest.TempPathFactory, kinds: str, less: int, start: int, joined: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "joined.qcow2"
    disk = image_of(kinds, path, less)
    start = min(start * 512, len(disk))
    with pytest.MonkeyPatch.context() as patch, qcow2crypt.open(path) as image:
        patch.setattr(extents, "_NEIGHBOURS_MAX", joined)
        fast = list(image.extents(start))
        bounds = [one.bounds for one in image.stretches(start)]
        assert image.pread(len(disk), 0) == disk
        patch.setattr(ClusterMap, "compressed_runs", only_one(ClusterMap.compressed_runs))
        assert list(image.extents(start)) == fast
        assert [one.bounds for one in image.stretches(start)] == bounds
        assert image.pread(len(disk), 0) == disk


def test_neighbours_are_found_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_of("p" * 50, tmp_path / "image")
    asked: list[int] = []
    run_at = ClusterMap.run_at

    def counted(self: ClusterMap, position: int, end: int) -> extents.Run:
        asked.append(position)
        return run_at(self, position, end)

    monkeypatch.setattr(ClusterMap, "run_at", counted)
    with qcow2crypt.open(tmp_path / "image") as image:
        assert len(list(image.extents())) == 50
        assert len(list(image.extents(CLUSTER + 1, 3 * CLUSTER))) == 4
        image.pread(40 * CLUSTER, CLUSTER)
    assert asked == [0, CLUSTER + 1, CLUSTER]


def test_a_range_inside_clusters(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(FILE)
    with qcow2crypt.open(tmp_path / "image", secret=SECRET) as image:
        for start in range(0, len(DISK), 512):
            length = min(CLUSTER, len(DISK) - start)
            found = list(image.own_extents(start, length))
            assert sum(extent.length for extent in found) == length
            assert image.pread(length, start) == DISK[start : start + length]
