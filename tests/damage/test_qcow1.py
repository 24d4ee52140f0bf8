"""A qcow version 1 image with a size that is not its own."""

from __future__ import annotations

import io
import tracemalloc

import qcow2crypt
from qcow2crypt.testing.damage.rows_qcow1 import L1, ROWS
from qcow2crypt.testing.damage.tiny import put


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
