"""Damaged tables: the map of a file and the way back from a host offset end, with our errors."""

from __future__ import annotations

import random
import struct

import golden
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import Counting

from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.explaining.filemap import file_map, region_at
from qcow2crypt.explaining.guesttables import POSITIONS_MAX
from qcow2crypt.image.chain import open_files
from qcow2crypt.image.names import LayerOptions

NAMES = (
    "aes-c512-snapshot.qcow2",
    "aes-c4k-compressed.qcow2",
    "aes-c64k-v3-extl2.qcow2",
    "luks-aes128cbc-essiv.qcow2",
    "qcow1-aes.qcow",
)


def look(data: bytes, hosts: list[int]) -> None:
    """Map the file, and look at places; only our errors come out."""
    try:
        files = open_files(Counting(data), options=LayerOptions(no_backing=True), external="none")
    except Qcow2CryptError:
        return
    try:
        layer = files.layers[0]
        found = file_map(layer.file, layer.structure, claims_max=5000)
        assert sum(region.length for region in found.regions) == found.file_size
        for host in hosts:
            place = region_at(layer.file, layer.structure, host % len(data))
            assert place.region.host_offset <= host % len(data) < place.region.end
    except Qcow2CryptError:
        pass
    finally:
        files.close()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1 << 32))
def test_flipped_bytes(name: str, seed: int) -> None:
    choose = random.Random(seed)
    data = bytearray(golden.load(name).data)
    for _ in range(choose.randrange(1, 8)):
        at = choose.choice([choose.randrange(112), choose.randrange(min(len(data), 1 << 14))])
        data[at] = choose.choice([0, 1, 0x40, 0x80, 0xFF, choose.randrange(256)])
    look(bytes(data), [choose.randrange(len(data)) for _ in range(3)])


def test_every_table_names_one_cluster() -> None:
    """512 bytes of L2 table named by every L1 entry of 64 snapshots, which all overlap."""
    cluster = 512
    l1, l2, snapshots, table = 8 * cluster, 4 * cluster, 6 * cluster, 2 * cluster
    data = bytearray(1 << 20)
    entries = 1 << 15
    data[:104] = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, 9, entries * 64 * cluster, 0, entries, l1, table, 1),
        *(64, snapshots, 0, 0, 0, 4, 104),
    )
    data[l2 : l2 + cluster] = struct.pack(">Q", 5 * cluster) * 64
    data[l1 : l1 + 8 * entries] = struct.pack(">Q", l2) * entries
    at = snapshots
    for number in range(64):
        entry = struct.pack(
            ">QIHHIIQII", l1 + (number % 2) * cluster, entries // 2, 1, 1, 0, 0, 0, 0, 16
        )
        entry += bytes(16) + b"1a" + bytes(6)
        data[at : at + len(entry)] = entry
        at += len(entry)
    files = open_files(Counting(bytes(data)), options=LayerOptions(), external="none")
    layer = files.layers[0]
    place = region_at(layer.file, layer.structure, 5 * cluster)
    assert len(place.region.claims) + place.region.claims_left_off == POSITIONS_MAX
    found = file_map(layer.file, layer.structure, claims_max=5000)
    assert not found.complete
    files.close()
