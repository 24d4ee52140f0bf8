"""Damaged images: a table of single damages, each with what must become of it, and random ones.

``rows`` has some three hundred small images that break one rule of the format each, or look as if
they did; ``damage_metadata`` changes the tables of a sound image at random.  Both know the
documents of the formats only, and call nothing of this package, so that both cannot be wrong in
the same way.
"""

from __future__ import annotations

from qcow2crypt.testing.damage import (
    rows_compressed,
    rows_extensions,
    rows_header,
    rows_qcow1,
    rows_subclusters,
    rows_tables,
)
from qcow2crypt.testing.damage.surgeon import damage_metadata
from qcow2crypt.testing.damage.table import SECRET, Damage, MapDamage

__all__ = ["SECRET", "Damage", "MapDamage", "damage_metadata", "rows"]

_ROWS: tuple[Damage, ...] = (
    *(*rows_header.ROWS, *rows_extensions.ROWS, *rows_tables.ROWS),
    *(*rows_subclusters.ROWS, *rows_compressed.ROWS, *rows_qcow1.ROWS),
)


def rows() -> tuple[Damage, ...]:
    """All rows of the table of damages."""
    return _ROWS
