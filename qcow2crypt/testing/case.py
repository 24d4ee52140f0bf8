"""A case: which images there are, and what is done to them, as plain values.

A case is a chain of images.  The lowest is made and changed first, then the one on top of it, and
so on; the guest sees the last.  Knows no program: ``script`` renders a case as commands of QEMU,
``ours`` carries it out with our writer, ``rules`` tells which cases can be.

The passphrases are made up for throw-away images.  They are shown in the repr, so that whoever
reads of a failure can repeat it; never put a real one here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, Union

from qcow2crypt.errors import ArgumentError
from qcow2crypt.units import BLOCK_SIZE

FillKind: TypeAlias = Literal["pattern", "numbers", "random"]
SnapshotAction: TypeAlias = Literal["create", "apply", "delete"]
Format: TypeAlias = Literal["qcow2", "qcow", "raw"]


@dataclass(frozen=True, slots=True)
class Fill:
    """The bytes of one write.

    ``pattern``  the byte ``value``, over and over
    ``numbers``  decimal numbers from ``value`` on, 15 digits and a newline: every block of 16
                 bytes is another
    ``random``   the bytes of ``random.Random(value)``, which no compressor makes shorter
    """

    kind: FillKind = "pattern"
    value: int = 1

    def data(self, length: int) -> bytes:
        r"""The first ``length`` bytes.

        >>> Fill("numbers", 41).data(20)
        b'000000000000041\n0000'
        """
        if self.kind == "pattern":
            return bytes([self.value]) * length
        if self.kind == "random":
            return random.Random(self.value).randbytes(length)
        numbers = range(self.value, self.value + -(-length // BLOCK_SIZE))
        return b"".join(b"%015d\n" % number for number in numbers)[:length]


@dataclass(frozen=True, slots=True)
class Write:
    """Guest bytes; ``compressed`` for ``write -c``, of whole clusters that hold nothing yet."""

    offset: int
    length: int
    fill: Fill = field(default_factory=Fill)
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class WriteZeroes:
    """``write -z``, with ``unmap`` ``write -z -u``."""

    offset: int
    length: int
    unmap: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """The guest needs a range no more."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size for the disk, in bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An internal snapshot is created, applied or deleted."""

    action: SnapshotAction
    name: str


Operation: TypeAlias = Union[Write, WriteZeroes, Discard, Resize, Snapshot]  # noqa: UP007 - at run time
_KINDS: dict[str, type[Any]] = {
    "write": Write,
    "write_zeroes": WriteZeroes,
    "discard": Discard,
    "resize": Resize,
    "snapshot": Snapshot,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One image: how it is created, and what is then done to it.

    ``size`` is that of the disk when it is created, in bytes; a ``passphrase`` makes it encrypted
    (AES).  The other names are those of ``qemu-img create -o``.  ``raw`` and ``qcow`` can only be
    the lowest layer of a case, and have no options.
    """

    size: int
    format: Format = "qcow2"
    version: Literal[2, 3] = 3
    cluster_size: int = 65536
    passphrase: str | None = None
    refcount_bits: int = 16
    extended_l2: bool = False
    compression_type: Literal["zlib", "zstd"] = "zlib"
    lazy_refcounts: bool = False
    data_file: bool = False
    operations: tuple[Operation, ...] = ()

    def sizes(self) -> Iterator[int]:
        """The size of the disk before the first operation, and after each of them."""
        size, kept = self.size, dict[str, int]()
        yield size
        for operation in self.operations:
            if isinstance(operation, Resize):
                size = operation.size
            elif isinstance(operation, Snapshot) and operation.action == "create":
                kept[operation.name] = size
            elif isinstance(operation, Snapshot) and operation.action == "apply":
                size = kept[operation.name]
            yield size

    @property
    def last_size(self) -> int:
        """The size of the disk in the end."""
        return list(self.sizes())[-1]

    @property
    def snapshots(self) -> dict[str, int]:
        """The snapshots that are there in the end, in order: by name the size that each keeps."""
        found: dict[str, int] = {}
        for operation, size in zip(self.operations, self.sizes(), strict=False):
            if isinstance(operation, Snapshot) and operation.action == "create":
                found[operation.name] = size
            elif isinstance(operation, Snapshot) and operation.action == "delete":
                del found[operation.name]
        return found


@dataclass(frozen=True, slots=True)
class Case:
    """A chain of images, the lowest first.

    >>> case = Case((Layer(1 << 20, operations=(Write(0, 512),)),))
    >>> Case.from_json(case.to_json()) == case
    True
    """

    layers: tuple[Layer, ...]

    @property
    def top(self) -> Layer:
        """The image that the guest sees."""
        return self.layers[-1]

    @property
    def image(self) -> str:
        """The name of its file."""
        return self.file_name(len(self.layers) - 1)

    def file_name(self, index: int) -> str:
        """The name of the file of a layer."""
        return f"layer{index}.{self.layers[index].format}"

    def data_name(self, index: int) -> str:
        """The name of the external data file of a layer."""
        return f"data{index}.raw"

    def secret_name(self, index: int) -> str:
        """The name of the file with the passphrase of a layer."""
        return f"secret{index}"

    @property
    def secrets(self) -> dict[int, str]:
        """The passphrases by depth, 0 being the top."""
        depths = enumerate(reversed(self.layers))
        return {d: layer.passphrase for d, layer in depths if layer.passphrase is not None}

    @property
    def operations(self) -> int:
        """How many operations there are, in all layers."""
        return sum(len(layer.operations) for layer in self.layers)

    def with_layer(self, index: int, layer: Layer) -> Case:
        """The same case but for one layer."""
        return replace(self, layers=(*self.layers[:index], layer, *self.layers[index + 1 :]))

    def to_json(self) -> dict[str, Any]:
        """As plain values, for ``json.dumps``."""
        return {"layers": [_plain_layer(layer) for layer in self.layers]}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Case:
        """From what ``to_json`` gave.  Raises ArgumentError for anything else."""
        try:
            return cls(tuple(_layer(row) for row in plain["layers"]))
        except (TypeError, KeyError, AttributeError) as error:
            raise ArgumentError(f"this is no case of a comparison: {error}") from error


def _plain_layer(layer: Layer) -> dict[str, Any]:
    names = {kind: name for name, kind in _KINDS.items()}
    plain: dict[str, Any] = {}
    for item in fields(layer):
        value = getattr(layer, item.name)
        if item.name == "operations":
            value = [{"operation": names[type(one)], **asdict(one)} for one in value]
        elif value == item.default:
            continue
        plain[item.name] = value
    return plain


def _layer(plain: dict[str, Any]) -> Layer:
    operations = tuple(_operation(dict(row)) for row in plain.get("operations", ()))
    return Layer(**{**plain, "operations": operations})


def _operation(plain: dict[str, Any]) -> Operation:
    kind = _KINDS[plain.pop("operation")]
    if "fill" in plain:
        plain["fill"] = Fill(**plain["fill"])
    operation: Operation = kind(**plain)
    return operation
