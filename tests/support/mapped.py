"""Images of which only the tables matter, put together by hand."""

from __future__ import annotations

import struct

from qcow2crypt.testing.damage.tiny import put_fields, tiny


def image(tables: list[list[int] | None], bits: int = 9) -> bytes:
    """An image with these L2 tables, in clusters behind an L1 table of 64 entries."""
    size = 1 << bits
    l1 = [0 if table is None else (4 + n) * size for n, table in enumerate(tables)]
    data = put_fields(
        tiny(cluster_bits=bits).data[: 3 * size],
        {"l1_size": len(l1), "l1_table_offset": 3 * size, "size": len(l1) * size * (size // 8)},
    )
    data = data.ljust(3 * size, b"\0") + struct.pack(f">{len(l1)}Q", *l1).ljust(size, b"\0")
    for table in tables:
        values = table or []
        data += struct.pack(f">{len(values)}Q", *values).ljust(size, b"\0")
    return data
