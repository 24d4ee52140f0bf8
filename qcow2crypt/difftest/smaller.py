"""Steps from a case to smaller ones, the largest steps first.

Fewer layers, fewer operations, plainer options, shorter and earlier ranges, smaller disks.  What
comes out need not be tidy.  Knows cases alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from qcow2crypt.testing.case import (
    Case,
    Discard,
    Fill,
    Layer,
    Operation,
    Resize,
    Write,
    WriteZeroes,
)
from qcow2crypt.units import SECTOR_SIZE, align_down

SHORT_SECRET = "secret"
"""The passphrase of a small case, where any will do."""
_SIZES = (1, 2, 16, 128, 256)
"""Of a disk that may do, in sectors; larger ones are halved."""


def smaller(case: Case) -> Iterator[Case]:
    """Smaller cases, in the order in which they are tried."""
    for index in range(len(case.layers) if len(case.layers) > 1 else 0):
        yield Case(case.layers[:index] + case.layers[index + 1 :])
    yield from _moved(case)
    for steps in (_fewer, _plainer, _simpler_operations, _smaller_disks):
        for index, layer in enumerate(case.layers):
            for changed in steps(layer):
                yield case.with_layer(index, changed)
    for size in _SIZES if len(case.layers) > 1 else ():
        sizes = (min(layer.size, size * SECTOR_SIZE) for layer in case.layers)
        yield Case(tuple(map(_with_size, case.layers, sizes)))


def _moved(case: Case) -> Iterator[Case]:
    """All images with less in front: so far that something starts at the first cluster."""
    starts = {
        align_down(operation.offset, layer.cluster_size)
        for layer in case.layers
        for operation in layer.operations
        if isinstance(operation, (Write, WriteZeroes, Discard))
    }
    for distance in sorted(starts - {0}, reverse=True):
        yield Case(tuple(_layer_moved(layer, distance) for layer in case.layers))


def _layer_moved(layer: Layer, distance: int) -> Layer:
    """Without the first ``distance`` bytes of the disk."""
    operations: list[Operation] = []
    for operation in layer.operations:
        if isinstance(operation, (Write, WriteZeroes, Discard)):
            start = max(0, operation.offset - distance)
            length = operation.offset + operation.length - distance - start
            if length > 0:
                operations.append(replace(operation, offset=start, length=length))
        elif isinstance(operation, Resize):
            size = max(SECTOR_SIZE, operation.size - distance)
            operations.append(Resize(size))
        else:
            operations.append(operation)
    size = max(SECTOR_SIZE, layer.size - distance)
    return replace(layer, size=size, operations=tuple(operations))


def _fewer(layer: Layer) -> Iterator[Layer]:
    """Without operations that follow one another: half of them, a quarter, ... one."""
    all_of_them = layer.operations
    length = len(all_of_them)
    while length:
        for start in range(0, len(all_of_them), length):
            kept = all_of_them[:start] + all_of_them[start + length :]
            yield replace(layer, operations=kept)
        length //= 2


def _plainer(layer: Layer) -> Iterator[Layer]:
    """One option less: each as it is by default; then a passphrase that is like any other."""
    plain = Layer(layer.size)
    for item in fields(layer):
        if item.name in ("size", "operations"):
            continue
        usual = getattr(plain, item.name)
        if getattr(layer, item.name) != usual:
            yield replace(layer, **{item.name: usual})
    secret = layer.passphrase
    if secret is not None and secret != SHORT_SECRET:
        middle = len(secret) // 2
        shorter = (SHORT_SECRET, secret[:middle], secret[middle:], secret[:-1], "a" * len(secret))
        yield from (replace(layer, passphrase=text) for text in shorter)


def _simpler_operations(layer: Layer) -> Iterator[Layer]:
    """One operation with less of something."""
    for number, operation in enumerate(layer.operations):
        before, behind = layer.operations[:number], layer.operations[number + 1 :]
        for simpler in _simpler(operation, layer.cluster_size):
            yield replace(layer, operations=(*before, simpler, *behind))


def _with_size(layer: Layer, size: int) -> Layer:
    return replace(layer, size=size)


def _smaller_disks(layer: Layer) -> Iterator[Layer]:
    sizes = {SECTOR_SIZE * count for count in _SIZES} | {align_down(layer.size // 2, SECTOR_SIZE)}
    for size in sorted(size for size in sizes if 0 < size < layer.size):
        yield replace(layer, size=size)


def _simpler(operation: Operation, cluster: int) -> Iterator[Operation]:
    if isinstance(operation, Resize):
        yield from (Resize(n * SECTOR_SIZE) for n in _SIZES if n * SECTOR_SIZE < operation.size)
    elif isinstance(operation, (Write, WriteZeroes, Discard)):
        yield from _less_far(operation, cluster)
    if isinstance(operation, Write):
        yield from _plainer_write(operation)
    if isinstance(operation, WriteZeroes) and operation.unmap:
        yield replace(operation, unmap=False)


def _less_far(operation: Write | WriteZeroes | Discard, cluster: int) -> Iterator[Operation]:
    """Shorter, then nearer to the start of the disk."""
    length, offset = operation.length, operation.offset
    for shorter in (SECTOR_SIZE, cluster, align_down(length // 2, SECTOR_SIZE)):
        if 0 < shorter < length:
            yield replace(operation, length=shorter)
    for earlier in (0, cluster, align_down(offset // 2, SECTOR_SIZE)):
        if earlier < offset:
            yield replace(operation, offset=earlier)


def _plainer_write(write: Write) -> Iterator[Write]:
    if write.compressed:
        yield replace(write, compressed=False)
    for fill in (Fill("pattern", 1), Fill("numbers", 1)):
        if fill != write.fill and (write.fill.kind != "pattern" or fill.kind == "pattern"):
            yield replace(write, fill=fill)
