"""From a guest offset down a chain of layers to the place in a file that has the byte.

Knows tables; never sees guest bytes or keys.  Where the tables are damaged, MappingError tells the
entry.  Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcow2crypt.explaining import entries
from qcow2crypt.explaining.facts import LayerStep, Position, TableEntry
from qcow2crypt.image.chain import Layer
from qcow2crypt.image.extents import CompressedRun, ExtentKind
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.info import Snapshot
from qcow2crypt.image.qcow1.header import Qcow1Header
from qcow2crypt.image.qcow1.mapping import Qcow1Map
from qcow2crypt.image.qcow1.structure import Qcow1Structure
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, OFFSET_MASK
from qcow2crypt.image.qcow2.header import CRYPT_AES, CRYPT_LUKS, SUBCLUSTERS, Header
from qcow2crypt.image.qcow2.mapping import ClusterMap
from qcow2crypt.image.qcow2.snapshots import check_l1, find_snapshot, read_snapshots
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.tables import read_l1
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE, align_down, align_up

_BEYOND = "beyond the end"


@dataclass(frozen=True, slots=True)
class Found:
    """What a layer says, and for a compressed cluster where its data lies."""

    step: LayerStep
    run: CompressedRun | None = None


class LayerDisk:
    """The guest disk of one layer: the active one, or that of a snapshot.

    Raises HeaderError for a snapshot table that cannot be read, SnapshotNotFoundError.
    """

    def __init__(self, layer: Layer, snapshot: str | None = None) -> None:
        self.layer = layer
        self.snapshot: Snapshot | None = None
        structure = layer.structure
        self.encryption: str | None = None
        if structure is None:
            self.size = align_up(layer.file.size, SECTOR_SIZE)
        else:
            methods = {CRYPT_AES: "aes", CRYPT_LUKS: "luks"}
            self.encryption = methods.get(structure.header.crypt_method)
            self.size = structure.header.guest_size
        if snapshot is not None:
            self.snapshot = _snapshot(layer, snapshot)
            self.size = align_down(self.snapshot.disk_size, SECTOR_SIZE)

    @property
    def shown_snapshot(self) -> str | None:
        """The snapshot in words."""
        one = self.snapshot
        return None if one is None else f"{one.id} '{one.name}'"

    @property
    def data_file(self) -> HostFile:
        """The file with the guest's data."""
        return self.layer.data_file or self.layer.file

    def look_up(self, offset: int) -> Found:
        """What this layer alone says of the byte at a guest offset.  Raises MappingError."""
        structure = self.layer.structure
        if structure is None or offset >= self.size:
            place = position(offset, None)
            if offset >= self.size:
                why = f"this layer ends at guest offset {self.size:#x}: behind that are zeros"
                return Found(self._step(place, (), _BEYOND, why, None))
            why = "a raw image: the host offset is the guest offset"
            return Found(self._step(place, (), "data", why, offset))
        if isinstance(structure, Qcow1Structure):
            return self._qcow1(structure, offset)
        return self._qcow2(structure, offset)

    def _qcow2(self, structure: Structure, offset: int) -> Found:
        header, file, active = structure.header, self.layer.file, self.snapshot is None
        at, count = header.l1_table_offset, header.l1_size
        if self.snapshot is not None:
            check_l1(file, header, self.snapshot)
            at, count = self.snapshot.l1_table_offset, self.snapshot.l1_size
        where = ClusterMap(file, header, read_l1(file, at, count), l1_offset=at)
        place = position(offset, header)
        return self._mapped(where, place, _qcow2_entries(file, header, (at, count), place, active))

    def _qcow1(self, structure: Qcow1Structure, offset: int) -> Found:
        header, file = structure.header, self.layer.file
        place = position(offset, header)
        return self._mapped(Qcow1Map(file, header), place, _qcow1_entries(file, header, place))

    def _mapped(
        self, where: ClusterMap | Qcow1Map, place: Position, found: Iterator[TableEntry]
    ) -> Found:
        start = align_down(place.offset, SECTOR_SIZE)
        kind, host, _ = where.run_at(start, start + SECTOR_SIZE)
        run = None
        if kind is ExtentKind.COMPRESSED:
            run = where.compressed_runs(start, start + SECTOR_SIZE)[0]
        elif host is not None:
            host += place.byte_in_sector
        why = self._why(kind, host)
        return Found(self._step(place, tuple(found), kind.value, why, host), run)

    def _why(self, kind: ExtentKind, host: int | None) -> str:
        if kind is ExtentKind.DATA:
            how = "encrypted" if self.encryption else "as it is"
            return f"stored in the file, {how}"
        if kind is ExtentKind.COMPRESSED:
            return "stored in one compressed cluster, which is never encrypted"
        if kind is ExtentKind.ZERO:
            kept = "; its place in the file is kept but not read" if host is not None else ""
            return f"marked as zeros: nothing is read or decrypted{kept}"
        kept = " (the cluster has a place, but not this subcluster)" if host is not None else ""
        return f"not stored in this layer{kept}"

    def _step(
        self,
        place: Position,
        found: tuple[TableEntry, ...],
        kind: str,
        why: str,
        host: int | None,
    ) -> LayerStep:
        return LayerStep(
            depth=self.layer.depth,
            file=self.layer.file.name,
            format=self.layer.format,
            encryption=self.encryption,
            virtual_size=self.size,
            snapshot=self.shown_snapshot,
            position=place,
            entries=found,
            kind=kind,
            why=why,
            host_offset=host,
            data_file=self.data_file.name,
        )


def position(offset: int, header: Header | Qcow1Header | None) -> Position:
    """A guest offset in all units."""
    inside = offset % SECTOR_SIZE
    units = (offset, offset // SECTOR_SIZE, inside, inside // BLOCK_SIZE, inside % BLOCK_SIZE)
    if header is None:
        return Position(*units)
    size = header.cluster_size
    small = None
    if isinstance(header, Header) and header.extended_l2:
        small = offset % size // (size // SUBCLUSTERS)
    return Position(
        *units,
        cluster_size=size,
        cluster=offset // size,
        byte_in_cluster=offset % size,
        l2_entries=header.l2_entries,
        l1_index=offset // header.l2_coverage,
        l2_index=offset // size % header.l2_entries,
        subcluster=small,
    )


def _entry(file: HostFile, table: int, index: int, words: int = 1) -> tuple[int, tuple[int, ...]]:
    """Where an entry stands, and its words; what lies behind the end of the file is zero."""
    at = table + index * words * ENTRY_SIZE
    data = file.pread(words * ENTRY_SIZE, at) if at < file.size else bytes(words * ENTRY_SIZE)
    parts = (data[i : i + ENTRY_SIZE] for i in range(0, len(data), ENTRY_SIZE))
    return at, tuple(int.from_bytes(part, "big") for part in parts)


def _qcow2_entries(
    file: HostFile,
    header: Header,
    l1: tuple[int, int],
    place: Position,
    active: bool,
) -> Iterator[TableEntry]:
    """``l1`` is the host offset of the L1 table, and how many entries it has."""
    assert place.l1_index is not None  # noqa: S101 - an image with clusters has all of these
    assert place.l2_index is not None  # noqa: S101
    if place.l1_index >= l1[1]:
        return  # a snapshot may have a short table: what lies behind is not stored
    at, (word,) = _entry(file, l1[0], place.l1_index)
    yield TableEntry("L1", place.l1_index, at, word, entries.l1_bits(word, active=active))
    table = word & OFFSET_MASK
    if not table:
        return
    extended = header.extended_l2
    at, words = _entry(file, table, place.l2_index, 2 if extended else 1)
    has_zero = header.version > 2 and not extended
    bits = entries.l2_bits(words[0], header.cluster_bits, has_zero=has_zero, active=active)
    yield TableEntry("L2", place.l2_index, at, words[0], bits)
    if place.subcluster is not None:
        small = entries.subcluster_bits(words[1], place.subcluster)
        yield TableEntry("L2 subclusters", place.l2_index, at + ENTRY_SIZE, words[1], small)


def _qcow1_entries(file: HostFile, header: Qcow1Header, place: Position) -> Iterator[TableEntry]:
    assert place.l1_index is not None  # noqa: S101 - an image with clusters has all of these
    assert place.l2_index is not None  # noqa: S101
    at, (word,) = _entry(file, header.l1_table_offset, place.l1_index)
    yield TableEntry("L1", place.l1_index, at, word, entries.qcow1_l1_bits(word))
    if word:
        at, (word,) = _entry(file, word, place.l2_index)
        bits = entries.qcow1_l2_bits(word, header.cluster_bits)
        yield TableEntry("L2", place.l2_index, at, word, bits)


def _snapshot(layer: Layer, id_or_name: str) -> Snapshot:
    structure = layer.structure
    found: tuple[Snapshot, ...] = ()
    if isinstance(structure, Structure):
        found = tuple(read_snapshots(layer.file, structure.header))
    return find_snapshot(found, id_or_name, layer.file.name)
