"""Damaged images of qcow version 1: refused for the right reason, at the right place; or read.

And QEMU is asked for its opinion on each.
"""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from damage.rows_qcow1 import L1, ROWS
from damage.table import Damage, MapDamage
from damage.tiny import put
from oracles.qemu_img import Disk, QemuError, QemuImg

import qcow2crypt
from qcow2crypt.errors import FormatError, HeaderError, MappingError


def names(row: Damage) -> str:
    return row.name


def open_row(row: Damage) -> qcow2crypt.Image:
    return qcow2crypt.open(io.BytesIO(row.data), format="qcow")


def open_and_read(row: Damage) -> None:
    with open_row(row) as image:
        assert isinstance(row, MapDamage), "this should not have been opened"
        image.pread(1, row.guest_offset)


READ = [row for row in ROWS if row.content is not None]
REFUSED = [row for row in ROWS if row.content is None]
DAMAGED = [row for row in ROWS if isinstance(row, MapDamage)]


def test_no_row_twice() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", READ, ids=names)
def test_it_is_read(row: Damage) -> None:
    with open_row(row) as image:
        assert image.readall() == row.content


@pytest.mark.parametrize("row", REFUSED, ids=names)
def test_it_is_refused(row: Damage) -> None:
    with pytest.raises(FormatError) as caught:
        open_and_read(row)
    error = caught.value
    assert type(error) is row.error
    assert (error.field, error.offset) == row.where
    assert error.found in str(error)
    assert error.allowed in str(error)


@pytest.mark.parametrize("row", DAMAGED, ids=names)
def test_a_damaged_cluster_spares_the_others(row: MapDamage) -> None:
    size = row.body.cluster_size
    with open_row(row) as image:
        with pytest.raises(MappingError) as caught:
            image.readall()
        assert caught.value.guest_offset == row.guest_offset
        for cluster in row.spared:
            start = cluster * size
            assert image.pread(size, start) == row.body.content[start : start + size]


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_it_is_described_unless_its_header_is_bad(row: Damage) -> None:
    if row.error is HeaderError:
        with pytest.raises(HeaderError) as caught:
            qcow2crypt.info(io.BytesIO(row.data), format="qcow")
        assert (caught.value.field, caught.value.offset) == row.where
        return
    info = qcow2crypt.info(io.BytesIO(row.data), format="qcow")
    assert (info.format, info.why_unreadable) == ("qcow", ())


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_qemu_thinks_the_same(row: Damage, qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "damaged.qcow", "qcow")
    target = Disk(tmp_path / "read.raw", "raw")
    disk.path.write_bytes(row.data)
    should_read = row.qemu == "reads" or (row.qemu == "agrees" and row.content is not None)
    try:
        qemu_img.convert(disk, target)
    except QemuError:
        assert not should_read, "QEMU refuses it"
        return
    assert should_read, "QEMU reads it"
    if row.qemu == "agrees":
        assert target.path.read_bytes() == row.content


def test_a_huge_size_in_a_small_file_takes_little_memory() -> None:
    """The header claims an L1 table of 2 GiB; the file ends long before."""
    size = (2**28 - 1) << 15
    data = ROWS[0].data
    at = len(data)  # the table is the last thing in the file
    data = put(put(data, at, data[L1 : L1 + 8]), 40, at.to_bytes(8, "big"))
    data = put(data, 24, size.to_bytes(8, "big"))
    tracemalloc.start()
    try:
        with qcow2crypt.open(io.BytesIO(data), format="qcow") as image:
            assert image.size == size
            assert sum(extent.length for extent in image.extents()) == size
            assert image.pread(512, 0) == ROWS[0].data[1024:1536]
            assert image.pread(512, size - 512) == bytes(512)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
