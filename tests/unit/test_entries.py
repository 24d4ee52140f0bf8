"""L2 entries of compressed clusters: offset and length, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.qcow2 import entries
from qcow2crypt.image.qcow2.entries import pack_compressed, parse_compressed


@pytest.mark.parametrize(
    ("entry", "bits", "offset", "length"),
    [
        (0x4000000000005000, 12, 0x5000, 512),  # in the golden image aes-c4k-compressed
        (0x400000000000504F, 12, 0x504F, 512 - 0x4F),
        (0x4000000000000000 | 1 << 54, 16, 0, 1024),
        (0x4000000000000000 | 1 << 58 | 0x1FF, 12, 0x1FF, 513),
        (0x7FFFFFFFFFFFFFFF, 9, 2**61 - 1, 513),
        (0x7FFFFFFFFFFFFFFF, 21, 2**49 - 1, 8191 * 512 + 1),
        (0xC000000000000200, 9, 0x200, 512),  # the copied bit says nothing here
    ],
)
def test_known_entries(entry: int, bits: int, offset: int, length: int) -> None:
    assert parse_compressed(entry, bits) == CompressedRun(offset, length)


@given(st.integers(9, 21), st.data())
def test_packing_and_parsing_are_twins(bits: int, data: st.DataObject) -> None:
    most_sectors = 1 << (bits - 8)
    offset = data.draw(st.integers(0, 2 ** (62 - (bits - 8)) - 1))
    # A run ends at a sector border: that is all the entry can say.
    sectors = data.draw(st.integers(1, most_sectors))
    run = CompressedRun(offset, sectors * 512 - offset % 512)
    entry = pack_compressed(run, bits)
    assert entry >> 62 == 1
    assert parse_compressed(entry, bits) == run


@given(st.integers(9, 21), st.integers(0, 2**40), st.integers(1, 2000))
def test_a_packed_run_is_covered(bits: int, offset: int, length: int) -> None:
    length = min(length, 1 << bits)
    run = parse_compressed(pack_compressed(CompressedRun(offset, length), bits), bits)
    assert run.host_offset == offset
    assert length <= run.length < length + 512


def test_the_bits_do_not_overlap() -> None:
    parts = (
        entries.OFFSET_MASK,
        entries.FLAG_COPIED,
        entries.FLAG_COMPRESSED,
        entries.FLAG_ZERO,
    )
    together = parts[0] | parts[1] | parts[2] | parts[3]
    assert together == sum(parts)
    assert sum(1 << bit for bit in range(9, 56)) == entries.OFFSET_MASK
    assert parts[1:] == (2**63, 2**62, 1)
    assert (entries.ENTRY_SIZE, entries.EXTENDED_ENTRY_SIZE) == (8, 16)
