"""A target in memory."""

from __future__ import annotations

from collections.abc import Sequence

from qcow2crypt.units import ReadBuffer


class Memory:
    """A target in memory that knows the order of what was written."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.order: list[int] = []

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self.data.extend(bytes(max(0, offset + view.nbytes - len(self.data))))
        self.data[offset : offset + view.nbytes] = view
        self.order.append(offset)

    def pwritev(self, parts: Sequence[ReadBuffer], offset: int) -> None:
        self.pwrite(b"".join(parts), offset)

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        raise NotImplementedError("no test here asks for it")
