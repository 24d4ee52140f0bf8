"""Which entry of an L1 or L2 table lies at a host offset, and what of the guest's disk it maps.

Pure: knows claims and headers; reads nothing.  Source: the qcow2 document, "Cluster mapping".
"""

from __future__ import annotations

from typing import NamedTuple

from qcow2crypt.explaining.filemap import Place
from qcow2crypt.explaining.guesttables import AnyStructure
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.image.qcow2.entries import ENTRY_SIZE, EXTENDED_ENTRY_SIZE
from qcow2crypt.image.qcow2.header import Header


class EntryPlace(NamedTuple):
    """An entry of a table: ``length`` guest bytes from ``guest_offset`` on are mapped by it."""

    table: str
    number: int
    guest_offset: int
    length: int
    snapshot: str | None

    @property
    def note(self) -> str:
        """What it is, for people."""
        end = self.guest_offset + self.length
        return (
            f"this byte is a part of {self.table} entry {self.number}, which maps guest offsets "
            f"{self.guest_offset:#x} to {end - 1:#x}; shown is how the first of them is found"
        )


def entry_at(place: Place, structure: AnyStructure | None) -> EntryPlace | None:
    """The table entry at a place; of the active disk if there is one.  None for other places."""
    if structure is None:
        return None
    header = structure.header
    extended = isinstance(header, Header) and header.extended_l2
    claims = sorted(place.region.claims, key=lambda claim: claim.snapshot is not None)
    for claim in claims:
        inside = place.host_offset - claim.host_offset
        if claim.kind is RegionKind.L1_TABLE:
            index, length = inside // ENTRY_SIZE, header.l2_coverage
            return EntryPlace("L1", index, index * length, length, claim.snapshot)
        if claim.kind is RegionKind.L2_TABLE and claim.guest_offset is not None:
            index = inside // (EXTENDED_ENTRY_SIZE if extended else ENTRY_SIZE)
            length = header.cluster_size
            first = claim.guest_offset + index * length
            return EntryPlace("L2", index, first, length, claim.snapshot)
    return None
