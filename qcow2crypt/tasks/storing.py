"""Store pieces that lie in a buffer: leave zeros out, give the rest places, bring the bytes there.

Joins zero runs and a writer.  What is decided in turn is apart from what any thread may do.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcow2crypt.image.placed import Placed, Run
from qcow2crypt.tasks.creation import DiskWriter, PlacingWriter
from qcow2crypt.units import GuestOffset
from qcow2crypt.zeros import data_runs, has_no_zeros

_FEW_BYTES = 64 << 10
"""Where pieces are longer on average, it is quicker to look at each."""


class Storer:
    """Stores pieces in ``writer`` without runs of zeros of ``sparse_size`` bytes; 0 keeps all."""

    def __init__(self, writer: DiskWriter, sparse_size: int) -> None:
        self._writer = writer
        self._placing = writer if isinstance(writer, PlacingWriter) else None
        self._sparse_size = sparse_size

    def runs(self, pieces: list[Run], view: memoryview) -> list[Run]:
        """What of the pieces, which are ``view``, is worth storing.  Any thread may ask."""
        if not self._sparse_size:
            return pieces
        if view.nbytes < len(pieces) * _FEW_BYTES and has_no_zeros(view):
            return pieces
        return [
            (GuestOffset(offset + first), at + first, end - first)
            for offset, at, length in pieces
            for first, end in data_runs(view[at : at + length], offset, self._sparse_size)
        ]

    def decide(self, runs: Sequence[Run], view: memoryview) -> Placed | None:
        """Give the runs their places: in turn, in ascending order.

        A writer that cannot put bytes in places later stores them here; then there is None.
        """
        if self._placing is not None:
            return self._placing.place(runs)
        for offset, at, length in runs:
            self._writer.write(offset, view[at : at + length])
        return None

    def put(self, placed: Placed | None, view: memoryview) -> None:
        """Bring the bytes to their places.  Any thread may, in any order."""
        if placed is not None and self._placing is not None:
            self._placing.put(placed, view)
