"""Compressed targets: what is written is read, and what cannot be shortened is stored as it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import qcow2crypt
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.rawoptions import RawOptions
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.creation import disk_writer
from qcow2crypt.units import GuestOffset

CLUSTER = 4096
OPTIONS = Qcow2Options(cluster_size=CLUSTER)


def build(
    path: Path, size: int, writes: list[tuple[int, bytes]], *, keep_zeros: bool = False
) -> None:
    with TargetFile(path) as file:
        writer = disk_writer(
            file, size, "qcow2", OPTIONS, secret=None, engine=None, compress=True,
            keep_zeros=keep_zeros,
        )  # fmt: skip
        for offset, data in writes:
            writer.write(GuestOffset(offset), data)
        writer.finish()
        file.commit()


def kinds(path: Path) -> list[ExtentKind]:
    """The kind of each cluster."""
    with qcow2crypt.open(path) as image:
        return [next(image.extents(at, 512)).kind for at in range(0, image.size, CLUSTER)]


def test_clusters_are_collected_from_pieces(tmp_path: Path) -> None:
    path = tmp_path / "image"
    noise = random.Random(1).randbytes(CLUSTER)
    disk = b"a" * CLUSTER + noise + bytes(CLUSTER) + b"b" * 1536
    pieces = [(0, disk[:512]), (1024, disk[1024:5120]), (5120, disk[5120 : 2 * CLUSTER])]
    build(path, len(disk), [*pieces, (3 * CLUSTER, disk[3 * CLUSTER :])])
    with qcow2crypt.open(path) as image:
        assert image.readall() == disk[:512] + bytes(512) + disk[1024:]
    packed, data, hole = ExtentKind.COMPRESSED, ExtentKind.DATA, ExtentKind.UNALLOCATED
    assert kinds(path) == [packed, data, hole, packed]


@pytest.mark.parametrize("keep_zeros", [False, True])
def test_zeros(tmp_path: Path, keep_zeros: bool) -> None:
    path = tmp_path / "image"
    build(path, 3 * CLUSTER, [(0, bytes(2 * CLUSTER))], keep_zeros=keep_zeros)
    hole = ExtentKind.UNALLOCATED
    written = ExtentKind.COMPRESSED if keep_zeros else hole
    assert kinds(path) == [written, written, hole]


def test_more_than_is_compressed_at_once(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "image"
    noise = random.Random(2)
    disk = b"".join(noise.randbytes(40) * 100 for _ in range(2000))
    source.write_bytes(disk)
    qcow2crypt.convert(
        source, path, source_format="raw", target_format="qcow2", options=OPTIONS, compress=True
    )
    assert path.stat().st_size < len(disk) // 5
    with qcow2crypt.open(path) as image:
        assert image.readall() == disk.ljust(image.size, b"\0")


@pytest.mark.parametrize(
    ("target_format", "options", "says"),
    [
        ("raw", None, "cannot hold compressed clusters"),
        ("raw", RawOptions(), "cannot hold compressed clusters"),
        ("qcow2", Qcow2Options(encryption="aes"), "compression and encryption"),
        ("qcow2", Qcow2Options(preallocation="full"), "compression and preallocation"),
        ("qcow2", Qcow2Options(data_file="d"), "compression and an external data file"),
    ],
)
def test_what_cannot_be_compressed(
    target_format: Any, options: Any, says: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data" * 128)
    with pytest.raises(ArgumentError, match=says):
        qcow2crypt.convert(
            source,
            tmp_path / "target",
            source_format="raw",
            target_format=target_format,
            target_secret="x" if "encryption" in says else None,
            options=options,
            compress=True,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
