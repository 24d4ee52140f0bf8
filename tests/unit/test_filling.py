"""The pieces of a conversion: joined compressed clusters give the same ones as single extents."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.whole_image import CLUSTER, DISK, FILE, SECRET

import qcow2crypt
from qcow2crypt.image import extents
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.clusterimage import ClusterImage
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.fresh.compressing import compressor
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.tasks.filling import Filler
from qcow2crypt.tasks.salvaging import Salvager

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
        patch.setattr(extents, "_JOINED_MAX", joined * 512)
        fast = Filler(4096, None, len(disk))
        slow = Filler(4096, None, len(disk), salvager=Salvager())  # which asks for single extents
        assert list(fast._pieces(image, start)) == list(slow._pieces(image, start))
        assert image.pread(len(disk), 0) == disk


def test_clusters_are_joined(tmp_path: Path) -> None:
    image_of("p" * 50, tmp_path / "image")
    with qcow2crypt.open(tmp_path / "image") as image:
        assert isinstance(image, ClusterImage)
        (extent,) = image.joined_extents()
        assert (extent.kind, extent.length) == (ExtentKind.COMPRESSED, 50 * CLUSTER)
        assert len(list(image.extents())) == 50
        assert extent.host_offset == next(image.extents()).host_offset


def test_a_range_inside_clusters(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(FILE)
    with qcow2crypt.open(tmp_path / "image", secret=SECRET) as image:
        assert isinstance(image, ClusterImage)
        for start in range(0, len(DISK), 512):
            single = list(image.own_extents(start, min(CLUSTER, len(DISK) - start)))
            assert list(image.joined_extents(start, min(CLUSTER, len(DISK) - start))) == single
