"""Which cases can be, and where two right programs may differ: ``tidy`` makes any case one of them.

What QEMU refuses is left out, and so is what no document settles or QEMU itself does badly:

- a discard keeps to whole clusters, and there is none in version 2 above a backing file;
- a disk that shrank does not grow again: QEMU then shows what stood behind its end;
- in version 2, and with subclusters, a disk does not grow where its backing file is longer.

So what is left has one right content, and a difference in it is somebody's fault.  Pure.
"""

from __future__ import annotations

from dataclasses import replace

from qcow2crypt.testing.case import (
    Case,
    Discard,
    Layer,
    Operation,
    Resize,
    Snapshot,
    Write,
    WriteZeroes,
)
from qcow2crypt.units import SECTOR_SIZE, align_down, align_up

QCOW_CLUSTER = 4096
"""Of an image of qcow version 1, as qemu-img makes it."""
SMALLEST_WITH_SUBCLUSTERS = 16384
_EXTRA_COUNTS = 3  # while QEMU applies a snapshot it counts each cluster once more


def tidy(case: Case) -> Case:
    """The nearest case that QEMU carries out without an error and that has one right content.

    >>> layer = Layer(1000, operations=(WriteZeroes(512, 4096), Resize(512), Resize(9999)))
    >>> tidy(Case((layer,))).top.operations
    (WriteZeroes(offset=512, length=512, unmap=False), Resize(size=512))
    """
    layers: list[Layer] = []
    for layer in case.layers or (Layer(SECTOR_SIZE),):
        below = layers[-1].last_size if layers else None
        plain = _options(layer, lowest=not layers)
        layers.append(replace(plain, operations=_Operations(plain, below).kept()))
    return Case(tuple(layers))


def _options(layer: Layer, *, lowest: bool) -> Layer:
    """The layer with options that go together."""
    size = max(SECTOR_SIZE, align_up(layer.size, SECTOR_SIZE))
    if layer.format != "qcow2" and not lowest:
        layer = replace(layer, format="qcow2")
    if layer.format != "qcow2":
        secret = layer.passphrase if layer.format == "qcow" else None
        return Layer(size, layer.format, passphrase=secret, operations=layer.operations)
    if layer.version == 2:
        layer = replace(
            layer,
            refcount_bits=16,
            extended_l2=False,
            compression_type="zlib",
            lazy_refcounts=False,
            data_file=False,
        )
    if layer.cluster_size < SMALLEST_WITH_SUBCLUSTERS:
        layer = replace(layer, extended_l2=False)
    return replace(layer, size=size)


class _Operations:
    """Goes through the operations of one layer, and keeps those that can be."""

    def __init__(self, layer: Layer, below: int | None) -> None:
        self._layer = layer
        self._below = below
        self._size = layer.size
        self._shrank = False
        self._used: set[int] = set()
        self._snapshots: dict[str, int] = {}
        self._cluster = QCOW_CLUSTER if layer.format == "qcow" else layer.cluster_size
        self._packed = any(isinstance(one, Write) and one.compressed for one in layer.operations)

    def kept(self) -> tuple[Operation, ...]:
        """The operations, mended or left out."""
        found = (self._mended(operation) for operation in self._layer.operations)
        return tuple(operation for operation in found if operation is not None)

    def _mended(self, operation: Operation) -> Operation | None:
        if isinstance(operation, Write):
            return self._write(operation)
        if isinstance(operation, WriteZeroes):
            if self._layer.format == "qcow":
                return None
            start, length = self._clipped(operation.offset, operation.length)
            self._use(start, length)
            return replace(operation, offset=start, length=length) if length else None
        if isinstance(operation, Discard):
            return self._discard(operation)
        if isinstance(operation, Resize):
            return self._resize(operation)
        return self._snapshot(operation) if self._layer.format == "qcow2" else None

    def _clipped(self, offset: int, length: int) -> tuple[int, int]:
        start = min(max(offset, 0), self._size)
        return start, max(0, min(length, self._size - start))

    def _use(self, start: int, length: int) -> None:
        if length:
            last = (start + length - 1) // self._cluster
            self._used.update(range(start // self._cluster, last + 1))

    def _whole(self, offset: int, length: int) -> tuple[int, int]:
        """The whole clusters of a range; the last one of the disk may be a part."""
        start, length = self._clipped(offset, length)
        end = start + length
        start = align_up(start, self._cluster)
        end = end if end == self._size else align_down(end, self._cluster)
        return start, max(0, end - start)

    def _write(self, write: Write) -> Write | None:
        start, length = self._clipped(write.offset, write.length)
        packed = write.compressed and self._layer.format == "qcow2" and not self._layer.data_file
        if packed:
            start, length = self._whole(start, length)
            clusters = range(start // self._cluster, -(-(start + length) // self._cluster))
            if not self._used.isdisjoint(clusters):
                return None
        self._use(start, length)
        return replace(write, offset=start, length=length, compressed=packed) if length else None

    def _discard(self, discard: Discard) -> Discard | None:
        layer = self._layer
        if layer.format != "qcow2" or (layer.version == 2 and self._below is not None):
            return None
        start, length = self._whole(discard.offset, discard.length)
        self._use(start, length)
        return Discard(start, length) if length else None

    def _resize(self, resize: Resize) -> Resize | None:
        layer = self._layer
        size = max(SECTOR_SIZE, align_up(resize.size, SECTOR_SIZE))
        if layer.format == "qcow" or size == self._size or (layer.version == 2 and self._snapshots):
            return None
        if size > self._size:
            hidden = self._below is not None and self._below > self._size
            if self._shrank or (hidden and (layer.version == 2 or layer.extended_l2)):
                return None
            if hidden:  # QEMU writes zeros over what would show of the backing file
                self._use(self._size, size - self._size)
        self._set_size(size)
        return Resize(size)

    def _set_size(self, size: int) -> None:
        self._shrank = self._shrank or size < self._size
        self._size = size

    def _snapshot(self, snapshot: Snapshot) -> Snapshot | None:
        name = snapshot.name
        if snapshot.action == "create":
            if name in self._snapshots or len(self._snapshots) >= self._most_snapshots():
                return None
            self._snapshots[name] = self._size
        elif name not in self._snapshots:
            return None
        elif snapshot.action == "delete":
            del self._snapshots[name]
        else:
            self._set_size(self._snapshots[name])
        return snapshot

    def _most_snapshots(self) -> int:
        if self._layer.data_file:
            return 0
        # Compressed clusters share host clusters, and count in each of them.
        if self._packed and self._layer.refcount_bits < 16:
            return 0
        return max(0, (1 << self._layer.refcount_bits) - _EXTRA_COUNTS)
