"""What can be said of one byte of a guest disk, as data: the answer of ``explain``.

Pure data: no I/O, no keys but those that were asked for.  ``to_dict`` of any fact is what the JSON
has: bytes as hex, numbers as numbers, entries of tables as hex.  Bytes are not in the repr.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from qcow2crypt.explaining.filemap import Place


class Fact:
    """What all facts share."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields by their names."""
        return cast("dict[str, Any]", plain(self))


def plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """A fact, or a part of one, in what JSON has."""
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if not isinstance(value, Fact) and hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        found = {one.name: plain(getattr(value, one.name)) for one in fields(value)}
        return found | ({"raw": f"{value.raw:#018x}"} if isinstance(value, TableEntry) else {})
    return value


@dataclass(frozen=True, slots=True)
class Bits(Fact):
    """Some bits of a table entry: from ``high`` down to ``low``, their value, what that means."""

    name: str
    high: int
    low: int
    value: int
    meaning: str


@dataclass(frozen=True, slots=True)
class TableEntry(Fact):
    """One entry of a table: which, where it stands in the file, its value, its bits.

    ``table`` is "L1", "L2" or "L2 subclusters" (the second half of an extended entry).
    """

    table: str
    index: int
    host_offset: int
    raw: int
    bits: tuple[Bits, ...]


@dataclass(frozen=True, slots=True)
class Position(Fact):
    """A guest offset in the units of a layer.  Counts from 0; a raw layer has no clusters."""

    offset: int
    sector: int
    byte_in_sector: int
    block: int
    byte_in_block: int
    cluster_size: int | None = None
    cluster: int | None = None
    byte_in_cluster: int | None = None
    l2_entries: int | None = None
    l1_index: int | None = None
    l2_index: int | None = None
    subcluster: int | None = None


@dataclass(frozen=True, slots=True)
class LayerStep(Fact):
    """What one layer of a chain says of the byte.  ``depth`` 0 is the image itself.

    ``kind`` is "data", "zero", "unallocated", "compressed" or "beyond the end" (of a backing file
    that is shorter); ``why`` the same in a sentence.  ``host_offset`` is where the byte lies in
    ``data_file`` (the image file, or an external one); of a compressed cluster, where that begins;
    of one that reads as zeros, the place that is kept for it.
    """

    depth: int
    file: str
    format: str
    encryption: str | None
    virtual_size: int
    snapshot: str | None
    position: Position
    entries: tuple[TableEntry, ...]
    kind: str
    why: str
    host_offset: int | None
    data_file: str


@dataclass(frozen=True, slots=True)
class CompressedFact(Fact):
    """A compressed cluster: where it lies, and how its first stored bytes look (never encrypted).

    ``cluster_offset`` is the guest offset of the cluster, ``skipped`` how far inside it the sector
    begins.
    """

    algorithm: str
    host_offset: int
    length: int
    cluster_offset: int
    skipped: int
    begins: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFact(Fact):
    """How the key comes from the passphrase.  ``key`` only where it was asked for."""

    passphrase_length: int
    bytes_used: int
    zeros_added: int
    bytes_ignored: int
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class IvFact(Fact):
    """Which number becomes the IV, what it counts, and its 16 bytes (None: they need the key)."""

    number: int
    unit: str
    generator: str
    iv: bytes | None


@dataclass(frozen=True, slots=True)
class CbcBlock(Fact):
    """One block of 16 bytes: ciphertext, what AES makes of it, what that is XORed with, result.

    ``xor_with`` is the IV for block 0, else the ciphertext of the block before.
    """

    index: int
    ciphertext: bytes = field(repr=False)
    decrypted: bytes = field(repr=False)
    xor_with: bytes = field(repr=False)
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AesStep(Fact):
    """A state of AES inside one block, in the words of FIPS-197, appendix C (inverse cipher).

    ``ik_sch`` is a round key: with any of these states the key is known, too.
    """

    round: int
    step: str
    state: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Explanation(Fact):
    """One byte, followed from the guest disk to the file and back.

    ``asked``      what was asked for, in words
    ``place``      for a host offset: what lies there, and all that points at it
    ``layers``     from the image downwards, up to the layer that has the byte
    ``stored``     the sector as it stands in the file; None where nothing is stored as sectors
    ``blocks``     the CBC chain, where the sector is encrypted and the key is known
    ``steps``      the rounds of AES in the block with the byte, where they were asked for
    ``plaintext``  the guest's sector; None where the key is not known
    ``byte``       the value of the byte itself
    ``notes``      what a reader should know besides
    """

    image: str
    asked: str
    place: Place | None = None
    layers: tuple[LayerStep, ...] = ()
    compressed: CompressedFact | None = None
    stored: bytes | None = field(default=None, repr=False)
    iv: IvFact | None = None
    key: KeyFact | None = None
    blocks: tuple[CbcBlock, ...] = ()
    steps: tuple[AesStep, ...] = ()
    plaintext: bytes | None = field(default=None, repr=False)
    byte: int | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def position(self) -> Position | None:
        """Where the byte stands on the guest disk; None for a host offset without guest data."""
        return self.layers[0].position if self.layers else None

    def text(self) -> str:
        """All of it in words, as the command prints it without colours."""
        from qcow2crypt.explaining.wording import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from qcow2crypt.explaining.html import as_html

        return as_html(self)
