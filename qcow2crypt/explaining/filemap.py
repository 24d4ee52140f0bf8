"""What lies where in one image file: at one host offset, or everywhere.

``region_at`` goes backwards from a host offset, ``file_map`` lists a whole file, in order and
without gaps; what no table names is told, too.  Never sees guest bytes or keys.

Memory: ``region_at`` keeps the offsets of the L2 tables (for each a guest disk of 512 MiB at
clusters of 64 KiB) and the claims on one cluster, whatever the image holds.  ``file_map`` keeps up
to ``claims_max`` claims; a file with more gives a map that is not ``complete``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import Any

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.explaining.guesttables import AnyStructure, GuestTables
from qcow2crypt.explaining.metadata import metadata_claims
from qcow2crypt.explaining.regions import Claim, Region, RegionKind, regions_of
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow1.structure import read_qcow1_structure
from qcow2crypt.image.qcow2.check.stored import StoredRefcounts
from qcow2crypt.image.qcow2.structure import Structure, read_structure
from qcow2crypt.units import align_down, div_up

CLAIMS_MAX = 1 << 16
_L1_ENTRIES_MAX = 1 << 24
_L2_BYTES_MAX = 1 << 31
_CLUSTERS_COUNTED_MAX = 1 << 22
"""So many unreferenced clusters are told apart by their refcount."""


@dataclass(frozen=True, slots=True)
class FileMap:
    """All regions of a file, in order and without gaps.

    ``complete`` False: there are more claims than were asked for, and what shows as NOT_LOOKED_AT
    may be named by a table.  ``problems`` tells what could not be read, and why.
    """

    file_size: int
    cluster_size: int
    regions: tuple[Region, ...]
    complete: bool = True
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file_size": self.file_size,
            "cluster_size": self.cluster_size,
            "complete": self.complete,
            "problems": list(self.problems),
            "regions": [region.to_dict() for region in self.regions],
        }


@dataclass(frozen=True, slots=True)
class Place:
    """One host offset: the ``region`` around it, no further than its ``cluster`` (a number)."""

    host_offset: int
    cluster: int
    region: Region
    problems: tuple[str, ...] = ()


def file_map(
    file: HostFile, structure: AnyStructure | None, *, claims_max: int = CLAIMS_MAX
) -> FileMap:
    """What lies where in a file.  ``structure`` None means: a raw image, all of it is data.

    Runs of guest clusters that lie one behind the other, in one L2 table, are one claim.  Raises
    SourceError, FormatError.
    """
    if structure is None:
        raw = (_raw(file.size),) if file.size else ()
        return FileMap(file.size, 1, raw)
    tables = GuestTables(file, structure)
    problems: list[str] = []
    found = list(islice(_all_claims(tables, problems), claims_max + 1))
    complete = len(found) <= claims_max and not problems and not tables.problems
    size = tables.cluster_size
    regions = regions_of(found[:claims_max], 0, file.size, size, complete=complete)
    counts = _refcounts(file, structure)
    counted = tuple(part for region in regions for part in _by_refcount(region, counts, size))
    if len(found) > claims_max:
        problems.append(f"the tables name more than {claims_max} runs: this is not the whole map")
    return FileMap(file.size, size, counted, complete, (*tables.problems, *problems))


def map_file(
    source: Source,
    *,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    force_share: bool = False,
    claims_max: int = CLAIMS_MAX,
) -> FileMap:
    """As ``file_map``, of a path or a binary file object; no other file is opened.

    An image with an external data file has its tables in its own file, and these are mapped.
    Raises SourceError, FormatError, ImageLockedError, UnsupportedFeatureError.
    """
    file = HostFile(source)
    try:
        file.lock(writing=False, force_share=force_share)
        return file_map(file, _structure(file, format or probe(file)), claims_max=claims_max)
    finally:
        file.close()


def _structure(file: HostFile, format_name: str) -> AnyStructure | None:
    if format_name == "qcow2":
        return read_structure(file)
    if format_name == "qcow":
        return read_qcow1_structure(file)
    if format_name == "raw":
        return None
    raise UnsupportedFeatureError(
        f"images of format {format_name}", f"'{file.name}'; format='raw' maps its raw bytes"
    )


def region_at(file: HostFile, structure: AnyStructure | None, host_offset: int) -> Place:
    """What the byte at a host offset is, with everything that points at it.

    Reads every table of the file once.  Raises ArgumentError for an offset outside the file,
    SourceError, FormatError.
    """
    if not 0 <= host_offset < file.size:
        raise ArgumentError(
            f"host offset {host_offset:#x} is not inside '{file.name}', which has {file.size} bytes"
        )
    if structure is None:
        return Place(host_offset, 0, _raw(file.size))
    tables = GuestTables(file, structure)
    size = tables.cluster_size
    start = align_down(host_offset, size)
    end = min(start + size, file.size)
    problems: list[str] = []
    metadata = metadata_claims(tables, problems)
    touching = (claim for claim in metadata if claim.host_offset < end and start < claim.end)
    found = list(islice(chain(touching, tables.claims_on(start, end)), CLAIMS_MAX))
    complete = not problems and not tables.problems
    regions = regions_of(found, start, end, size, complete=complete)
    region = next(one for one in regions if one.host_offset <= host_offset < one.end)
    counted = _counted(region, _refcounts(file, structure), size)
    return Place(host_offset, start // size, counted, (*tables.problems, *problems))


def _raw(size: int) -> Region:
    return Region(RegionKind.DATA, 0, size, (Claim(RegionKind.DATA, 0, size, "", 0),))


def _all_claims(tables: GuestTables, problems: list[str]) -> Iterator[Claim]:
    yield from metadata_claims(tables, problems)
    entries = length = 0
    for disk in tables.disks:
        entries += disk.l1_entries
        if entries > _L1_ENTRIES_MAX:
            problems.append("the L1 tables are too long to look at them all")
            return
        for claim, index in tables.l2_claims(disk):
            length += claim.length
            if length > _L2_BYTES_MAX:
                problems.append("the L2 tables are too many to look at them all")
                return
            yield claim
            yield from tables.data_claims(disk, index, claim.host_offset)


def _refcounts(file: HostFile, structure: AnyStructure) -> StoredRefcounts | None:
    return StoredRefcounts(file, structure.header) if isinstance(structure, Structure) else None


def _counted(region: Region, counts: StoredRefcounts | None, cluster_size: int) -> Region:
    if counts is None:
        return region
    return replace(region, refcount=counts[region.host_offset // cluster_size])


def _by_refcount(
    region: Region, counts: StoredRefcounts | None, cluster_size: int
) -> Iterator[Region]:
    """Unreferenced clusters in runs of one refcount: what is free, and what is leaked."""
    first, count = region.host_offset // cluster_size, div_up(region.length, cluster_size)
    free = region.kind is RegionKind.UNREFERENCED
    if counts is None or not free or count > _CLUSTERS_COUNTED_MAX:
        yield _counted(region, counts, cluster_size)
        return
    at = region.host_offset
    for refcount, run in groupby(counts[cluster] for cluster in range(first, first + count)):
        end = min(at + sum(1 for _ in run) * cluster_size, region.end)
        yield replace(region, host_offset=at, length=end - at, refcount=refcount)
        at = end
