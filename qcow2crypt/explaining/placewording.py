"""What lies at a host offset, in words."""

from __future__ import annotations

from collections.abc import Iterator

from qcow2crypt.explaining.filemap import Place
from qcow2crypt.explaining.lines import Line, row
from qcow2crypt.explaining.regions import GUEST_KINDS, Claim, Region, RegionKind
from qcow2crypt.units import SECTOR_SIZE

_CLAIMS_SHOWN = 8


def place_lines(place: Place | None) -> Iterator[Line]:
    """The region, its refcount, and everything that points at it."""
    if place is None:
        return
    region = place.region
    yield from row("host offset", f"{place.host_offset:#x}", f"host cluster {place.cluster}")
    says = f"as is all from {region.host_offset:#x} to {region.end - 1:#x}"
    yield from row("this is", region.kind.value, says, "mark")
    if region.refcount is not None:
        yield from row("refcount", str(region.refcount), _counted(region))
    for claim in region.claims[:_CLAIMS_SHOWN]:
        yield from row("named as", claim.kind.value, _claim(claim, place))
    more = len(region.claims) - _CLAIMS_SHOWN + region.claims_left_off
    if more > 0:
        yield from row("", f"and {more} more")


def _counted(region: Region) -> str:
    if region.kind is RegionKind.UNREFERENCED:
        return "leaked: counted, but no table names it" if region.refcount else "free"
    return {0: "not counted, though it is used", 1: "used once"}.get(region.refcount or 0, "shared")


def _claim(claim: Claim, place: Place) -> str:
    """Which one it is, how far it reaches if not just so far, and whose data it is."""
    host, region = place.host_offset, place.region
    words = [claim.about] if claim.about else []
    if (claim.host_offset, claim.end) != (region.host_offset, region.end):
        words.append(f"{claim.length} bytes from {claim.host_offset:#x} on")
    if claim.guest_offset is not None:
        if claim.kind in GUEST_KINDS:
            inside = 0 if claim.kind is RegionKind.COMPRESSED else host - claim.host_offset
            offset = claim.guest_offset + inside
            words += [] if claim.snapshot else ["active disk"]
            words.append(f"guest offset {offset:#x}, sector {offset // SECTOR_SIZE}")
        else:
            words.append(f"for guest offsets from {claim.guest_offset:#x} on")
    return ", ".join(words)
