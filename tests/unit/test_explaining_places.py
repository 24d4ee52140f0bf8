"""explain backwards: places of a file that are no guest data, and entries of tables."""

from __future__ import annotations

import io
import struct

import golden
import pytest
from support.explained import check_wording, explained

import qcow2crypt
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.testing.damage.tiny import put, tiny

PLACES = {0: RegionKind.HEADER, 512: RegionKind.REFCOUNT_TABLE, 1024: RegionKind.REFCOUNT_BLOCK}


@pytest.mark.parametrize("host", PLACES)
def test_places_without_guest_data(host: int) -> None:
    found = qcow2crypt.explain(io.BytesIO(tiny(3, 9).data), host_offset=host + 3)
    assert found.place is not None
    assert found.place.region.kind is PLACES[host]
    assert (found.layers, found.plaintext, found.byte) == ((), None, None)
    check_wording(found)


@pytest.mark.parametrize(
    "name", ["aes-c512-snapshot.qcow2", "aes-c64k-v3-extl2.qcow2", "qcow1-aes.qcow"]
)
def test_entries_of_tables(name: str) -> None:
    """From where an entry stands back to the entry: of the disk, and of a snapshot."""
    image = golden.load(name)
    for snapshot in (None, "1") if "snapshot" in name else (None,):
        for sector in range(0, image.size // 512, max(1, image.size // 512 // 20)):
            (step,) = explained(name, sector=sector, snapshot=snapshot, secret=None).layers
            for entry in step.entries:
                back = explained(name, host_offset=entry.host_offset + 5, secret=None)
                assert back.place is not None
                assert back.place.region.kind.value == f"{entry.table.split()[0]} table"
                # The bits of subclusters are told for the first of them.
                same = {(one.table, one.index, one.raw) for one in back.layers[0].entries}
                assert (entry.table, entry.index, entry.raw) in same
                assert f"{entry.table.split()[0]} entry {entry.index}, which maps" in back.notes[-1]
                assert (back.plaintext, back.byte, back.stored) == (None, None, None)
                check_wording(back)


def test_an_entry_that_is_damaged_is_told() -> None:
    image = tiny(3, 10)
    data = put(image.data, image.l2, struct.pack(">Q", 0x200))
    found = qcow2crypt.explain(io.BytesIO(data), host_offset=image.l2)
    assert "L2 entry is not valid" in found.notes[-1]
    assert found.layers == ()


def test_an_entry_behind_the_end() -> None:
    found = qcow2crypt.explain(io.BytesIO(tiny(3, 9).data), host_offset=tiny(3, 9).l2 + 8 * 60)
    assert "L2 entry 60, which maps nothing" in found.notes[-1]


def test_the_rest_of_the_last_cluster() -> None:
    image = tiny(3, 9)
    data = bytearray(image.data)
    data[24:32] = struct.pack(">Q", 0)
    found = qcow2crypt.explain(io.BytesIO(bytes(data)), host_offset=image.clusters[0])
    assert "the guest cannot see this byte" in found.notes[0]
    assert found.layers == ()
