"""The switch: new refcounts beside the old ones, one write of the header, exact at every point."""

from __future__ import annotations

import io
from array import array
from pathlib import Path

import pytest

from qcow2crypt.errors import TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bulk.switch import Switch, read_refcount_table, read_refcounts
from qcow2crypt.image.qcow2.counts import ClusterCounts
from qcow2crypt.image.qcow2.header import parse_header
from qcow2crypt.testing.damage.tiny import tiny
from qcow2crypt.testing.witness import Disk, QemuImg


class Recorder(io.BytesIO):
    """A file in memory that remembers its writes and barriers."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.log: list[tuple[int, bytes] | None] = []

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.log.append((self.tell(), piece))
        return super().write(piece)

    def flush(self) -> None:
        self.log.append(None)


def started(data: bytes, wanted: ClusterCounts | None = None) -> tuple[Recorder, Switch]:
    recorder = Recorder(data)
    file = HostFile(recorder, writable=True)
    header = parse_header(data[:112])
    if wanted is None:
        return recorder, Switch.of(file, header)
    return recorder, Switch(file, header, [read_refcounts(file, header)], wanted)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("bits", [9, 12, 16])
def test_the_order_on_disk(version: int, bits: int) -> None:
    image = tiny(version, bits)
    recorder, switch = started(image.data)
    header = switch.commit(nb_snapshots=0)
    *tables, barrier, last, end = recorder.log
    assert (barrier, end) == (None, None)
    assert last is not None
    at, written = last
    assert at == 0
    assert len(written) == (112 if version == 3 else 72)
    assert None not in tables
    old = HostFile(io.BytesIO(image.data))
    used = read_refcounts(old, parse_header(image.data))
    for place, piece in (entry for entry in tables if entry is not None):
        touched = range(place >> bits, (place + len(piece) - 1 >> bits) + 1)
        assert not any(used[cluster] for cluster in touched)
    data = recorder.getvalue()
    assert parse_header(data) == header
    assert data[112 : image.cluster_size] == image.data[112 : image.cluster_size]
    new = read_refcounts(HostFile(io.BytesIO(data)), header)
    clusters = len(data) // image.cluster_size
    free = {1, 2}
    assert [new[c] for c in range(clusters)] == [int(c not in free) for c in range(clusters)]


@pytest.mark.parametrize("refcount_bits", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_qemu_finds_nothing(
    tmp_path: Path, qemu_img: QemuImg, refcount_bits: int, cluster_size: int
) -> None:
    path = tmp_path / "image.qcow2"
    disk = Disk(path)
    options = {"cluster_size": cluster_size, "refcount_bits": refcount_bits}
    qemu_img.create(disk, 8 << 20, options)
    # Holes between the clusters, and at 512 bytes many refcount blocks.
    qemu_img.qemu_io(disk, ["write -P 3 0 3M", "write -P 4 5M 1M", "discard 1M 1M"])
    before = path.read_bytes()
    with path.open("r+b") as stream:
        file = HostFile(stream, writable=True)
        header = parse_header(before[:112])
        for _ in range(3):  # what the one leaves free, the next one takes
            header = Switch.of(file, header).commit()
    assert len(path.read_bytes()) <= len(before) + len(before) // 4 + 12 * cluster_size
    found = qemu_img.check(disk)
    assert "leaks" not in found
    assert "corruptions" not in found
    qemu_img.qemu_io(disk, ["read -P 3 0 1M", "read -P 0 1M 1M", "read -P 4 5M 1M"])


def test_space_for_the_caller_is_free_before_and_after() -> None:
    image = tiny(3, 9)
    recorder, switch = started(image.data)
    switch.wanted[6] = 0  # will be free, is not yet
    first = switch.allocate(2)
    assert first == 7
    assert (switch.wanted[7], switch.wanted[8]) == (1, 1)
    switch.write_table(array("Q", [1, 2]), first * 512)
    assert recorder.getvalue()[first * 512 :] == bytes([*[0] * 7, 1, *[0] * 7, 2]).ljust(512, b"\0")
    assert recorder.log[0] is not None
    header = switch.commit(l1_table_offset=first * 512)
    assert header.l1_table_offset == first * 512


def test_what_is_named_outside_the_file_stays_free_and_counts_when_it_comes_in() -> None:
    image = tiny(3, 9)
    recorder = Recorder(image.data)
    file = HostFile(recorder, writable=True)
    header = parse_header(image.data)
    old = read_refcounts(file, header)
    outside = ClusterCounts()
    outside.add_run(7, 2, 3)
    outside.add(500)
    switch = Switch(file, header, [old], old.copy(), outside)
    header = switch.commit()
    assert header.refcount_table_offset == 10 * 512
    new = read_refcounts(file, header)
    assert list(new.slice(7, 5)) == [3, 3, 1, 1, 0]


def test_a_count_that_does_not_fit_changes_nothing() -> None:
    image = tiny(3, 9)
    recorder, switch = started(image.data)
    switch.wanted[4] = 65536
    with pytest.raises(TargetError, match="refcount of 16 bits"):
        switch.commit()
    assert recorder.getvalue() == image.data


def test_a_block_for_its_own_range() -> None:
    """Everything a block counts is in use: it lies where it needs another block."""
    image = tiny(3, 9)
    wanted = ClusterCounts()
    wanted.add_run(0, 256)
    recorder, switch = started(image.data, wanted)
    header = switch.commit()
    file = HostFile(io.BytesIO(recorder.getvalue()))
    blocks = read_refcount_table(file, header)
    assert sum(1 for offset in blocks if offset) == 2
    new = read_refcounts(file, header)
    assert new.end == 259
    assert all(new[cluster] == 1 for cluster in range(259))


def test_a_table_of_many_clusters() -> None:
    image = tiny(3, 9)
    wanted = ClusterCounts()
    for index in range(300):
        wanted.add(index * 256)
    recorder, switch = started(image.data, wanted)
    header = switch.commit()
    assert header.refcount_table_clusters == 5
    new = read_refcounts(HostFile(io.BytesIO(recorder.getvalue().ljust(300 * 256 * 512))), header)
    assert all(new[index * 256] for index in range(300))


def test_a_file_too_large_for_its_clusters() -> None:
    wanted = ClusterCounts()
    wanted.add((8 << 20) // 8 * 256)
    _, switch = started(tiny(3, 9).data, wanted)
    with pytest.raises(TargetError, match="too large for a refcount table"):
        switch.commit()


def test_refcounts_of_hostile_tables_are_bounded() -> None:
    image = tiny(3, 9)
    for entry in (512, 1 << 63, 513, 2**64 - 1):
        data = bytearray(image.data)
        data[512:1024] = entry.to_bytes(8, "big") * 64
        file = HostFile(io.BytesIO(bytes(data)))
        counts = read_refcounts(file, parse_header(image.data))
        assert counts.end <= 7
