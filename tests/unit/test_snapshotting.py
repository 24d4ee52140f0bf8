"""Snapshots made by this package alone: ids, names, refusals, and damage that must stop them.

What qemu-img makes of them is compared in ``differential/test_snapshot_ops.py``.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    FormatError,
    ReadOnlyError,
    SnapshotNotFoundError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow2.bulk.snapshottable import NAME_MAX, find, new_row, read_rows
from qcow2crypt.image.qcow2.bulk.switch import read_refcount_table
from qcow2crypt.image.qcow2.bulk.versions import check_downgrade
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.lab.stored import Stored


def fresh(tmp_path: Path) -> io.BytesIO:
    """A new image of 1 MiB, in memory."""
    path = tmp_path / "fresh.qcow2"
    qcow2crypt.create(path, 1 << 20)
    return io.BytesIO(path.read_bytes())


def test_ids_go_on_from_the_highest(tmp_path: Path) -> None:
    file = fresh(tmp_path)
    with qcow2crypt.open(file, mode="r+") as image:
        for name in ("one", "two", "three"):
            image.create_snapshot(name)
        image.delete_snapshot("two")
        assert image.create_snapshot("four").id == "4"
        image.delete_snapshot("4")
        assert image.create_snapshot("five").id == "4"
        assert [(one.id, one.name) for one in image.snapshots()] == [
            ("1", "one"),
            ("3", "three"),
            ("4", "five"),
        ]


def test_the_clock_and_the_layout_of_a_row() -> None:
    row = new_row(
        [], "ünï", l1_table_offset=65536, l1_size=3, disk_size=1 << 30, date=5 * 10**9 + 7
    )
    assert len(row.entry) % 8 == 0
    assert row.entry[:12] == (65536).to_bytes(8, "big") + (3).to_bytes(4, "big")
    assert row.entry[12:24] == bytes((0, 1, 0, 5, 0, 0, 0, 5, 0, 0, 0, 7))
    assert row.entry[36:40] == (24).to_bytes(4, "big")
    assert row.entry[48:56] == (1 << 30).to_bytes(8, "big")
    assert row.entry[64:70] == b"1" + "ünï".encode()
    other = replace(row, snapshot=row.snapshot._replace(id="7", name="1"))
    assert find([row, other], "1", name_first=True) is other
    assert find([row, other], "1", name_first=False) is row
    assert find([row, other], "2", name_first=False) is None
    odd = replace(row, snapshot=row.snapshot._replace(id="not a number"))
    assert new_row([odd], "x", l1_table_offset=0, l1_size=0, disk_size=0, date=0).snapshot.id == "1"


@pytest.mark.parametrize("name", ["x" * (NAME_MAX + 1), "ü" * 128, "a\0b"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    file = fresh(tmp_path)
    with qcow2crypt.open(file, mode="r+") as image, pytest.raises(ArgumentError, match="255 bytes"):
        image.create_snapshot(name)


def test_a_snapshot_that_is_not_there(tmp_path: Path) -> None:
    with qcow2crypt.open(fresh(tmp_path), mode="r+") as image:
        image.create_snapshot("one")
        for operation in (image.apply_snapshot, image.delete_snapshot):
            with pytest.raises(SnapshotNotFoundError, match="1 'one'"):
                operation("two")


def test_images_that_cannot_have_snapshots(tmp_path: Path) -> None:
    with (
        qcow2crypt.open(io.BytesIO(bytes(512)), mode="r+", format="raw") as image,
        pytest.raises(UnsupportedFeatureError, match="format raw"),
    ):
        image.create_snapshot("one")
    with qcow2crypt.open(fresh(tmp_path)) as image, pytest.raises(ReadOnlyError):
        image.delete_snapshot("one")


def test_refcounts_that_say_less_than_there_is_are_refused(tmp_path: Path) -> None:
    """A cluster in use that counts as free would be given away."""
    file = fresh(tmp_path)
    with qcow2crypt.open(file, mode="r+") as image:
        image.pwrite(b"data" * 1000, 0)
    host = HostFile(file)
    structure = read_structure(host)
    block = next(offset for offset in read_refcount_table(host, structure.header) if offset)
    with qcow2crypt.open(file) as image:
        place = next(iter(image.own_extents())).host_offset
    assert place is not None
    damaged = bytearray(file.getvalue())
    at = block + 2 * (place // structure.header.cluster_size)
    assert damaged[at : at + 2] == b"\0\1"
    damaged[at : at + 2] = b"\0\0"
    copy = io.BytesIO(damaged)
    with qcow2crypt.open(copy, mode="r+") as image, pytest.raises(FormatError, match="check"):
        image.create_snapshot("one")
    assert copy.getvalue() == damaged


def test_what_is_not_known_of_an_entry_stays(tmp_path: Path) -> None:
    """Extra data that a later QEMU may write is kept byte for byte."""
    file = fresh(tmp_path)
    with qcow2crypt.open(file, mode="r+") as image:
        image.create_snapshot("one")
    host = HostFile(file, writable=True)
    header = read_structure(host).header
    (row,) = read_rows(host, header)
    longer = bytearray(row.entry)
    longer[36:40] = (32).to_bytes(4, "big")
    longer[64:64] = b"whatever"
    host.pwrite(bytes(longer), header.snapshots_offset)
    with qcow2crypt.open(file, mode="r+") as image:
        image.create_snapshot("two")
    first, second = read_rows(host, read_structure(host).header)
    assert first.entry == longer
    assert isinstance(second.snapshot, Snapshot)
    assert second.snapshot.id == "2"


IMPOSSIBLE = {
    "L1 size": (8, (1 << 28).to_bytes(4, "big")),
    "L1 table offset": (0, (520).to_bytes(8, "big")),
    "disk size": (48, (1 << 60).to_bytes(8, "big")),
}


@pytest.mark.parametrize("field", IMPOSSIBLE)
def test_a_snapshot_that_cannot_be_is_refused(tmp_path: Path, field: str) -> None:
    """Before anything is read of it, or written; the error says of which, and where."""
    path = tmp_path / "image.qcow2"
    options = qcow2crypt.Qcow2Options(encryption="aes")
    qcow2crypt.create(path, 1 << 20, secret="test", options=options)
    with qcow2crypt.open(path, secret="test", mode="r+") as image:
        image.create_snapshot("one")
        image.create_snapshot("two")
    damaged = bytearray(path.read_bytes())
    header = read_structure(HostFile(io.BytesIO(damaged))).header
    at, new = IMPOSSIBLE[field]
    at += header.snapshots_offset + 40 + 24 + 8  # behind the first: extra data, "1", "one", padding
    damaged[at : at + len(new)] = new
    path.write_bytes(damaged)
    with qcow2crypt.open(path, secret="test", mode="r+") as image, refused(field) as caught:
        image.apply_snapshot("two")
    assert caught.value.offset == at
    if field != "disk size":  # which only matters to who wants the disk
        with qcow2crypt.open(path, secret="test", mode="r+") as image, refused(field):
            image.delete_snapshot("two")
        host = HostFile(io.BytesIO(damaged))
        with refused(field):
            check_downgrade(host, read_structure(host), 16)
        with Stored(path) as stored, refused(field):
            next(stored.runs(stored.snapshots()[1]), None)
    assert path.read_bytes() == damaged


def refused(field: str) -> AbstractContextManager[pytest.ExceptionInfo[FormatError]]:
    return pytest.raises(FormatError, match=f"snapshot 2 'two': {field}")
