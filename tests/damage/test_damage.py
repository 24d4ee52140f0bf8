"""Damaged images: each is refused for the right reason, at the right place; or it is read.

And QEMU is asked for its opinion on each.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from golden import info_differences

import qcow2crypt
from qcow2crypt.errors import (
    ExternalReferenceError,
    FormatError,
    HeaderError,
    MappingError,
    Qcow2CryptError,
)
from qcow2crypt.testing.damage import SECRET, Damage, MapDamage, rows
from qcow2crypt.testing.witness import Disk, QemuError, QemuImg

ROWS = rows()


def names(row: Damage) -> str:
    return row.title


def open_row(row: Damage) -> qcow2crypt.Image:
    return qcow2crypt.open(io.BytesIO(row.data), format=row.format, secret=SECRET)


def open_and_read(row: Damage) -> None:
    """Open an image that is to be refused; if that is because of its tables, read there."""
    with open_row(row) as image:
        assert isinstance(row, MapDamage), "this should not have been opened"
        image.pread(1, row.guest_offset)


def test_no_row_twice() -> None:
    assert len({names(row) for row in ROWS}) == len(ROWS)


def test_a_row_that_differs_from_qemu_says_why() -> None:
    assert not [row.name for row in ROWS if (row.qemu == "agrees") != (not row.why)]


@pytest.mark.parametrize("row", [row for row in ROWS if row.content is not None], ids=names)
def test_it_is_read(row: Damage) -> None:
    with open_row(row) as image:
        assert image.readall() == row.content


@pytest.mark.parametrize("row", [row for row in ROWS if row.content is None], ids=names)
def test_it_is_refused(row: Damage) -> None:
    assert row.error is not None
    with pytest.raises(Qcow2CryptError) as caught:
        open_and_read(row)
    error = caught.value
    assert type(error) is row.error
    assert row.says in str(error)
    if isinstance(error, FormatError):
        assert (error.field, error.offset) == row.where
        assert error.found in str(error)
        assert error.allowed in str(error)
    else:
        assert row.where is None


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row, MapDamage)], ids=names)
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
            qcow2crypt.info(io.BytesIO(row.data), format=row.format)
        assert (caught.value.field, caught.value.offset) == row.where
        return
    info = qcow2crypt.info(io.BytesIO(row.data), format=row.format)
    assert info.format == row.format
    # Whether another file can be opened is not for the description of this one.
    readable = row.content is not None or isinstance(row, MapDamage)
    readable = readable or row.error is ExternalReferenceError
    assert bool(info.why_unreadable) is not readable
    assert info.as_dict()["qcow2crypt"]["readable"] is readable
    if row.says and not readable:
        assert any(row.says.strip(" (") in why + " " for why in info.why_unreadable)


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_qemu_thinks_the_same(row: Damage, qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "damaged", row.format, SECRET if row.format == "qcow2" else None)
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


# QEMU lists a snapshot of zeros there; we say that the table runs out of the file.
NOT_DESCRIBED_ALIKE = {"snapshots behind the end of the file"}


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row.content is not None and row.qemu == "agrees" and row.name not in NOT_DESCRIBED_ALIKE
    ],
    ids=names,
)
def test_qemu_describes_the_same(row: Damage, qemu_img: QemuImg, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "damaged", row.format)
    disk.path.write_bytes(row.data)
    ours = qcow2crypt.info(disk.path, format=row.format).as_dict()
    assert info_differences(qemu_img.info(disk), ours) == {}
