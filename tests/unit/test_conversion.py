"""From one image to another: every direction, holes, progress, errors and bounded memory.

Whether the files are those that qemu-img makes is for the differential tests.
"""

from __future__ import annotations

import itertools
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
from support.kinds import AES, DISK, KINDS, MIB, NEW, OLD, content, disk_of, make, secret_of
from support.refcounts import problems

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
)
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.qcow2.options import Qcow2Options


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(DISK)
    return path


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS, KINDS)))
def test_every_direction(first: str, second: str, tmp_path: Path) -> None:
    old = make(tmp_path / "old", first, DISK)
    before = old.read_bytes()
    format_name, options = KINDS[second]
    result = qcow2crypt.convert(
        old,
        tmp_path / "new",
        source_format=KINDS[first][0],
        target_format=format_name,
        secret=secret_of(first, OLD),
        target_secret=secret_of(second, NEW),
        options=options,
    )
    assert disk_of(tmp_path / "new", second, NEW) == DISK
    assert old.read_bytes() == before
    assert result.size == len(DISK)
    assert sum(c == "x" for c in "x..xx....x.") * 16384 < result.stored <= len(DISK)
    if format_name == "qcow2":
        assert problems((tmp_path / "new").read_bytes()) == []
    if second.startswith("aes"):
        assert disk_of(tmp_path / "new", second, OLD) != DISK


@pytest.mark.parametrize("name", golden.READABLE)
def test_golden_images_to_raw_and_to_a_new_passphrase(name: str, tmp_path: Path) -> None:
    image = golden.load(name)
    raw, rekeyed = tmp_path / "raw", tmp_path / "rekeyed"
    qcow2crypt.convert(image.path, raw, secret=image.secret)
    assert golden.sha256(raw.read_bytes()) == image.manifest["guest_sha256"]
    qcow2crypt.convert(
        image.path,
        rekeyed,
        target_format="qcow2",
        secret=image.secret,
        target_secret=NEW,
        options=AES,
    )
    assert golden.sha256(disk_of(rekeyed, "aes", NEW)) == image.manifest["guest_sha256"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4095, 4097, 70000])
@pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
def test_odd_sizes(size: int, kind: str, tmp_path: Path) -> None:
    disk = random.Random(size).randbytes(size)
    path = make(tmp_path / "image", kind, disk)
    whole = disk.ljust(-(-size // 512) * 512, b"\0")
    assert disk_of(path, kind) == whole
    qcow2crypt.convert(
        path, tmp_path / "back", secret=secret_of(kind, OLD), source_format=KINDS[kind][0]
    )
    assert (tmp_path / "back").read_bytes() == whole


@pytest.mark.parametrize("size", [1, 511, 513, 1000, MIB + 100])
def test_a_file_of_an_odd_size(size: int, tmp_path: Path) -> None:
    """On disk, where the file system tells where data ends."""
    disk = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(disk)
    qcow2crypt.convert(
        tmp_path / "source", tmp_path / "out", source_format="raw", target_format="qcow2"
    )
    assert disk_of(tmp_path / "out", "plain") == disk.ljust(-(-size // 512) * 512, b"\0")


class TestZeros:
    def test_zeros_become_holes(self, source: Path, tmp_path: Path) -> None:
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.write(os.urandom(65536))
            file.seek(8 * MIB)
            file.write(bytes(4 * MIB))  # stored zeros
            file.write(os.urandom(65536))
            file.truncate(64 * MIB)
        result = qcow2crypt.convert(big, tmp_path / "out", source_format="raw")
        assert result.stored == 2 * 65536
        status = (tmp_path / "out").stat()
        assert status.st_size == 64 * MIB
        assert status.st_blocks * 512 < MIB

    def test_zeros_are_not_allocated_in_qcow2(self, source: Path, tmp_path: Path) -> None:
        path = make(tmp_path / "image", "aes", DISK)
        with qcow2crypt.open(path, secret=OLD) as image:
            holes = [extent for extent in image.extents() if extent.reads_as_zero]
            assert all(extent.kind is ExtentKind.UNALLOCATED for extent in holes)
            assert sum(extent.length for extent in holes) == 16384 * 7

    @pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
    def test_sparse_size_0_stores_all(self, kind: str, source: Path, tmp_path: Path) -> None:
        format_name, options = KINDS[kind]
        result = qcow2crypt.convert(
            source,
            tmp_path / "out",
            source_format="raw",
            target_format=format_name,
            target_secret=secret_of(kind, NEW),
            options=options,
            sparse_size=0,
        )
        assert result.stored == len(DISK)
        with qcow2crypt.open(
            tmp_path / "out", secret=secret_of(kind, NEW), format=format_name
        ) as image:
            assert {extent.kind for extent in image.extents()} == {ExtentKind.DATA}
            assert image.readall() == DISK

    def test_sparse_size_0_stores_what_the_source_does_not(self, tmp_path: Path) -> None:
        qcow2crypt.create(tmp_path / "empty", 3 * MIB)
        result = qcow2crypt.convert(tmp_path / "empty", tmp_path / "out", sparse_size=0)
        assert result.stored == 3 * MIB
        assert (tmp_path / "out").stat().st_blocks * 512 >= 3 * MIB

    def test_a_huge_sparse_size(self, source: Path, tmp_path: Path) -> None:
        qcow2crypt.convert(source, tmp_path / "out", source_format="raw", sparse_size=2**50)
        assert (tmp_path / "out").read_bytes() == DISK

    @pytest.mark.parametrize("size", [-512, -1, 1, 511, 513])
    def test_what_is_no_sparse_size(self, size: int, source: Path, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"the sparse size is a multiple of 512"):
            qcow2crypt.convert(source, tmp_path / "out", sparse_size=size)


class TestProgress:
    @pytest.mark.parametrize("pattern", ["", "x", ".", "x" * 300, "x.." * 100, "." * 300])
    @pytest.mark.parametrize("kind", ["raw", "aes"])
    def test_it_never_goes_back_and_reaches_the_end(
        self, pattern: str, kind: str, tmp_path: Path
    ) -> None:
        path = make(tmp_path / "image", kind, content(pattern))
        steps: list[tuple[int, int]] = []
        qcow2crypt.convert(
            path,
            tmp_path / "out",
            source_format=KINDS[kind][0],
            secret=secret_of(kind, OLD),
            progress=lambda done, total: steps.append((done, total)),
        )
        assert {total for _, total in steps} == {len(pattern) * 16384}
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]

    def test_into_an_existing_image_it_counts_the_whole_target(
        self, source: Path, tmp_path: Path
    ) -> None:
        target = make(tmp_path / "image", "plain", bytes(MIB))
        steps: list[tuple[int, int]] = []
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format="qcow2",
            into_existing=True,
            progress=lambda done, total: steps.append((done, total)),
        )
        assert {total for _, total in steps} == {MIB}
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1] == (MIB, MIB)

    def test_what_it_raises_stops_the_work(self, source: Path, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            if done > total // 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            qcow2crypt.convert(source, tmp_path / "out", source_format="raw", progress=stop)
        assert [path.name for path in tmp_path.iterdir()] == ["source.raw"]


def peak_of(work: Callable[[], Any]) -> int:
    """The most memory, in bytes, that Python objects took while ``work`` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    """1 TiB of disk, a few MiB of data here and there."""
    source, target, back = tmp_path / "source", tmp_path / "target", tmp_path / "back"
    places = (0, 1 << 30, (1 << 39) + 512, (1 << 40) - MIB)
    with source.open("wb") as file:
        file.truncate(1 << 40)
        for place in places:
            file.seek(place)
            file.write(b"\xa5" * MIB)
    format_name = KINDS[kind][0]
    options = None if kind == "raw" else Qcow2Options(encryption="aes" if kind == "aes" else None)
    there = peak_of(
        lambda: qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format=format_name,
            target_secret=secret_of(kind, NEW),
            options=options,
        )
    )
    assert there < 32 * MIB
    assert target.stat().st_blocks * 512 < 16 * MIB
    if kind == "raw":
        return
    assert peak_of(lambda: qcow2crypt.convert(target, back, secret=secret_of(kind, NEW))) < 32 * MIB
    with back.open("rb") as file:
        for place in places:
            file.seek(place)
            assert file.read(MIB) == b"\xa5" * MIB
    assert back.stat().st_size == 1 << 40


def test_the_passphrase_of_an_existing_target_is_asked_for_once(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    qcow2crypt.create(target, len(DISK), secret=NEW, options=Qcow2Options(encryption="aes"))
    asked = []

    def ask() -> str | bytes:
        asked.append(1)
        return NEW

    qcow2crypt.convert(source, target, target_format="qcow2", target_secret=ask, into_existing=True)
    assert len(asked) == 1
    with qcow2crypt.open(target, NEW) as disk:
        assert disk.read() == DISK
