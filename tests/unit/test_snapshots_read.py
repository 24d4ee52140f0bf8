"""Internal snapshots as images of their own: content, size, choice, and tables that cannot be."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import golden
import pytest

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    HeaderError,
    MappingError,
    ReadOnlyError,
    SnapshotNotFoundError,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.testing.damage.tiny import COPIED, put, put_fields, tiny

TINY = tiny()
CLUSTER = 512
TABLE_AT = 8 * CLUSTER
TABLES = 12 * CLUSTER


@dataclass(frozen=True)
class Row:
    """One entry of the snapshot table; an L1 table that has the second data cluster in it."""

    id: str
    name: str
    disk_size: int | None = 1024
    l1_offset: int = TABLES
    l1_size: int = 1
    vm_state: int = 0

    def pack(self) -> bytes:
        extra = b""
        if self.disk_size is not None:
            extra = struct.pack(">QQ", self.vm_state, self.disk_size)
        names = self.id.encode() + self.name.encode()
        sizes = (self.l1_offset, self.l1_size, len(self.id), len(self.name), 1, 2, 3)
        head = struct.pack(">QIHHIIQ", *sizes)
        entry = head + struct.pack(">II", self.vm_state, len(extra)) + extra + names
        return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def image_with(*rows: Row, version: int = 3) -> Qcow2Image:
    body = tiny(version=version)
    table = b"".join(row.pack() for row in rows)
    l2 = struct.pack(">2Q", body.clusters[1], body.clusters[0])
    data = put_fields(body.data, {"nb_snapshots": len(rows), "snapshots_offset": TABLE_AT})
    data = put(data, TABLE_AT, table)
    data = put(data, TABLES, struct.pack(">Q", TABLES + CLUSTER))
    return Qcow2Image(HostFile(io.BytesIO(put(data, TABLES + CLUSTER, l2.ljust(CLUSTER, b"\0")))))


SWAPPED = TINY.content[512:1024] + TINY.content[:512]


@pytest.mark.parametrize("disk_size", [0, 512, 1024, 1536, 2048, 8192])
def test_a_snapshot_has_the_size_that_the_disk_had(disk_size: int) -> None:
    with image_with(Row("1", "one", disk_size)) as image, image.snapshot("1") as view:
        assert view.size == disk_size
        assert view.readall() == SWAPPED.ljust(disk_size, b"\0")[:disk_size]
        assert image.readall() == TINY.content
        assert sum(extent.length for extent in view.extents()) == disk_size
        assert view.info().virtual_size == disk_size
        assert not view.writable()
        with pytest.raises(ReadOnlyError):
            view.pwrite(b"x", 0)


def test_an_old_entry_means_the_present_size() -> None:
    with image_with(Row("1", "one", None, vm_state=77), version=2) as image:
        (snapshot,) = image.snapshots()
        assert (snapshot.disk_size, snapshot.vm_state_size) == (2048, 77)
        assert image.snapshot("one").size == 2048


def test_an_id_wins_over_a_name_and_the_first_over_others() -> None:
    rows = (Row("1", "2", 512), Row("2", "1", 1024), Row("3", "same", 1536), Row("4", "same", 2048))
    with image_with(*rows) as image:
        sizes = {key: image.snapshot(key).size for key in ("1", "2", "3", "same")}
        assert sizes == {"1": 512, "2": 1024, "3": 1536, "same": 1536}
        with pytest.raises(SnapshotNotFoundError, match="no internal snapshot 'other'"):
            image.snapshot("other")
    with qcow2crypt.open(io.BytesIO(b"raw disk"), format="raw") as raw:
        assert raw.snapshots() == ()
        with pytest.raises(SnapshotNotFoundError):
            raw.snapshot("1")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (Row("1", "big", l1_size=(32 << 20) // 8 + 1), "L1 size"),
        (Row("1", "odd", l1_offset=TABLES + 8), "L1 table offset"),
        (Row("1", "far", l1_offset=2**63 - 512, l1_size=64), "L1 table offset"),
    ],
)
def test_l1_tables_that_qemu_refuses(row: Row, field: str) -> None:
    with image_with(row) as image:
        assert image.readall() == TINY.content
        assert len(image.snapshots()) == 1
        with pytest.raises(HeaderError, match=field):
            image.snapshot("1")


def test_tables_behind_the_end_of_the_file_read_as_zeros() -> None:
    row = Row("1", "far", 2048, l1_offset=1 << 40, l1_size=4_000_000)
    with image_with(row) as image, image.snapshot("1") as view:
        assert view.readall() == bytes(2048)


def test_errors_tell_the_table_of_the_snapshot() -> None:
    body = tiny(cluster_bits=12)
    l1_at = 8 << 12
    data = put_fields(body.data, {"nb_snapshots": 1, "snapshots_offset": 9 << 12})
    data = put(data, l1_at, struct.pack(">Q", (4 << 12) + 512 | COPIED))
    data = put(data, 9 << 12, Row("1", "one", 4096, l1_at).pack())
    with Qcow2Image(HostFile(io.BytesIO(data))) as image, image.snapshot("1") as view:
        with pytest.raises(MappingError) as caught:
            view.readall()
        assert caught.value.offset == l1_at


def test_a_view_lives_as_long_as_its_image() -> None:
    image = image_with(Row("1", "one"))
    view = image.snapshot("1")
    other = image.snapshot("1")
    other.close()
    with pytest.raises(ArgumentError, match="closed"):
        other.pread(1, 0)
    assert view.pread(512, 0) == SWAPPED[:512], "closing a view must not close the image"
    image.close()
    with pytest.raises(ArgumentError, match="closed"):
        view.pread(512, 0)


def test_an_encrypted_snapshot() -> None:
    """The IV is that of the guest's sector, wherever and whenever it was written."""
    disk = golden.load("aes-c512-snapshot.qcow2")
    (row,) = disk.manifest["snapshots"]
    with qcow2crypt.open(disk.path, secret=disk.secret) as image:
        for key in ("1", row["name"]):
            with image.snapshot(key) as view:
                assert golden.sha256(view.readall()) == row["guest_sha256"]
        assert golden.sha256(image.readall()) == disk.manifest["guest_sha256"]
    with qcow2crypt.open(disk.path, secret=disk.secret, snapshot=row["name"]) as view:
        assert golden.sha256(view.readall()) == row["guest_sha256"]
