"""Check the metadata of a qcow2 image, and repair it: the verdicts of ``qemu-img check``.

Reads tables only: no passphrase, no guest bytes, no backing file.  The one exception is the
search for sectors that QEMU 2.7.0 encrypted with a wrong IV, which is done only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qcow2crypt.errors import ArgumentError, ExternalReferenceError, UnsupportedFeatureError
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow2.check.findings import Finding, Report, silent
from qcow2crypt.image.qcow2.check.inspection import Inspection, inspect, read_damaged_structure
from qcow2crypt.image.qcow2.check.order import InOrder
from qcow2crypt.image.qcow2.check.rebuild import Repair, RepairKind
from qcow2crypt.image.qcow2.header import INCOMPAT_DATA_FILE, INCOMPAT_KNOWN
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.qcow2.wrong_iv import suspects
from qcow2crypt.tasks.pipeline import checked_threads
from qcow2crypt.tasks.readahead import READERS, reading_ahead
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, HostOffset, guest_sector, host_sector

FINDINGS_KEPT = 1000
_PIECE = 1 << 20
_GOOD, _FAILED, _CORRUPT, _LEAKING = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found; after a repair, what was left.

    ``corruptions``    make data wrong, or may when the image is written
    ``leaks``          clusters that nothing uses and that are not free: harmless
    ``check_errors``   parts that could not be checked
    ``failure``        why the check ended early, else None: then the numbers say nothing
    ``..._clusters``   of the guest disk: all, stored ones, those not behind the one before them,
                       and compressed ones
    ``findings``       the first thousand; ``report`` is given all
    """

    name: str
    image_end_offset: int = 0
    total_clusters: int = 0
    allocated_clusters: int = 0
    fragmented_clusters: int = 0
    compressed_clusters: int = 0
    leaks: int = 0
    corruptions: int = 0
    check_errors: int = 0
    leaks_fixed: int = 0
    corruptions_fixed: int = 0
    failure: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> int:
        """The exit code of ``qemu-img check``: 0 good, 1 failed, 2 corrupt, 3 leaking."""
        if self.failure is not None or self.check_errors:
            return _FAILED
        if self.corruptions:
            return _CORRUPT
        return _LEAKING if self.leaks else _GOOD

    def as_dict(self) -> dict[str, Any]:
        """What ``qemu-img check --output=json`` prints; numbers that are 0 are left out there."""
        numbers = {
            "image-end-offset": self.image_end_offset,
            "total-clusters": self.total_clusters,
            "allocated-clusters": self.allocated_clusters,
            "fragmented-clusters": self.fragmented_clusters,
            "compressed-clusters": self.compressed_clusters,
            "leaks": self.leaks,
            "corruptions": self.corruptions,
            "leaks-fixed": self.leaks_fixed,
            "corruptions-fixed": self.corruptions_fixed,
        }
        found: dict[str, Any] = {key: number for key, number in numbers.items() if number}
        names = {"filename": self.name, "format": "qcow2"}
        return {**found, "check-errors": self.check_errors, **names}


def check(
    source: Source,
    *,
    repair: RepairKind | None = None,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    force_share: bool = False,
    report: Callable[[Finding], None] = silent,
    threads: int = READERS,
) -> CheckResult:
    """Check an image, and repair "leaks" or "all" of what is wrong with it.

    A path, or a binary file object that can seek (and write, for a repair).  Needs no
    passphrase.  ``report`` is given every finding as it comes, by one thread at a time, but not
    always by the caller's.  ``force_share`` checks an image that another program writes to; what is
    found may then be the other's unfinished work.  ``threads`` (1 to 16) read tables while others
    are judged, where the disk lets them wait; what is found is the same.

    A repair that is cut short, by a crash too, leaves the image no worse than it was.  The dirty
    and corrupt bits are cleared when nothing is wrong any more.

    Raises UnsupportedFeatureError for other formats than qcow2 and for unknown incompatible
    features, HeaderError, ExternalReferenceError, SourceError, TargetError, ReadOnlyError,
    ImageLockedError, ArgumentError.
    """
    if repair not in (None, "leaks", "all"):
        raise ArgumentError(f"repair is 'leaks', 'all' or None, not {repair!r}")
    in_order = reading_ahead(checked_threads(threads))
    file = HostFile(source, writable=repair is not None)
    try:
        if not can_check(file, format):
            raise UnsupportedFeatureError("checks of this image format", "only qcow2 is checked")
        file.lock(writing=file.writable, force_share=force_share)
        structure = _structure(file)
        if repair is None:
            return _result(file, structure, report, in_order)
        return _repaired(file, structure, repair, report, in_order)
    finally:
        file.close()


def can_check(source: Source | HostFile, format: str | None = None) -> bool:  # noqa: A002
    """Has this format anything to check?  As with qemu-img, only qcow2 has.  Raises SourceError."""
    if format is not None:
        return format == "qcow2"
    if isinstance(source, HostFile):
        return probe(source) == "qcow2"
    file = HostFile(source)
    try:
        return probe(file) == "qcow2"
    finally:
        file.close()


def _structure(file: HostFile) -> Structure:
    structure = read_damaged_structure(file)
    if structure.header.incompatible_features & ~INCOMPAT_KNOWN:
        names = ", ".join(structure.unknown_features())
        raise UnsupportedFeatureError(
            f"unknown incompatible features: {names}",
            f"in '{file.name}'; 'qcow2crypt info' describes the image",
        )
    if structure.header.incompatible_features & INCOMPAT_DATA_FILE and not structure.data_file:
        # If it is that bit which is wrong, all data would look as if nothing used it.
        reason = "the image does not name it"
        raise ExternalReferenceError(file.name, "an external data file", reason)
    return structure


class _Keeper:
    """Keeps the first findings and hands on all."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.kept: list[Finding] = []

    def __call__(self, finding: Finding) -> None:
        if len(self.kept) < FINDINGS_KEPT:
            self.kept.append(finding)
        self._report(finding)


def _result(file: HostFile, structure: Structure, report: Report, in_order: InOrder) -> CheckResult:
    keeper = _Keeper(report)
    found = inspect(file, structure, keeper, in_order)
    return _numbers(file, structure, found, keeper)


def _numbers(
    file: HostFile, structure: Structure, found: Inspection, keeper: _Keeper
) -> CheckResult:
    findings, census = found.findings, found.census
    if found.fatal is not None:
        return CheckResult(
            file.name,
            corruptions=findings.corruptions,
            check_errors=findings.errors,
            failure=found.fatal,
            findings=tuple(keeper.kept),
        )
    return CheckResult(
        file.name,
        image_end_offset=found.comparison.end << structure.header.cluster_bits,
        total_clusters=found.total_clusters,
        allocated_clusters=census.allocated,
        fragmented_clusters=census.fragmented,
        compressed_clusters=census.compressed,
        leaks=findings.leaks,
        corruptions=findings.corruptions,
        check_errors=findings.errors,
        findings=tuple(keeper.kept),
    )


def _repaired(
    file: HostFile, structure: Structure, kind: RepairKind, report: Report, in_order: InOrder
) -> CheckResult:
    keeper = _Keeper(report)
    done = Repair(file, structure, kind, keeper, in_order)
    if done.fatal is not None:
        failed = _numbers(file, structure, done.found, keeper)
        return replace(failed, failure=done.fatal)
    # What is left is looked at afresh; what was repaired is told no more.
    fixed = done.leaks_fixed or done.corruptions_fixed
    left = _result(file, _structure(file), report if fixed else silent, in_order)
    return replace(
        left,
        leaks_fixed=done.leaks_fixed,
        corruptions_fixed=done.corruptions_fixed,
        findings=left.findings if fixed else tuple(keeper.kept),
    )


@dataclass(frozen=True, slots=True)
class SuspectSector:
    """A sector that looks as if QEMU 2.7.0 had encrypted it with its host sector number."""

    guest_offset: GuestOffset
    host_offset: HostOffset


def wrong_iv_suspects(image: Qcow2Image) -> Iterator[SuspectSector]:
    """The suspects in an AES image, in guest order; its own clusters only, not its backing file's.

    The image is open with its passphrase and as it is: without ``wrong_iv``.  A guess, and on the
    safe side: see ``qcow2crypt.image.qcow2.wrong_iv``.  Raises what reading raises.
    """
    if not image.encrypted:
        return
    for extent in image.own_extents():
        if extent.kind is not ExtentKind.DATA or extent.host_offset is None:
            continue
        for at in range(0, extent.length, _PIECE):
            guest = GuestOffset(extent.guest_offset + at)
            host = HostOffset(extent.host_offset + at)
            length = min(_PIECE, extent.length - at) // SECTOR_SIZE * SECTOR_SIZE
            plain = image.pread(length, guest)
            for index in suspects(plain, guest_sector(guest), host_sector(host)):
                skip = index * SECTOR_SIZE
                yield SuspectSector(GuestOffset(guest + skip), HostOffset(host + skip))
