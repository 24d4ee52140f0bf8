"""What the samples of a run say, as data: one row for each question.  Pure functions.

Rows are about encrypted images with the best that each program has; plain images and AES
instructions switched off stand beside them as comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from qcow2crypt.bench.dependence import Dependence, Points, dependence, share_without_cipher
from qcow2crypt.bench.samples import Ratio, ratio, summary
from qcow2crypt.bench.subjects import OURS, Encryption, Instructions, Missing, Section, Work, named

Samples = Mapping[Work, Sequence[float]]

RIVALS = ("qemu-img", "qemu-io")
WEIGHTY = 0.2
"""A conversion that is not at least this part of its time, start-up taken off, is no figure."""


class Finding(NamedTuple):
    """Does one kind of work of one program depend on the cluster size.

    ``size``   bytes of the disk or of a request
    ``share``  the part of the difference that is there without encryption, None if unknown
    """

    section: Section
    who: str
    what: str
    encryption: Encryption
    size: int
    dependence: Dependence
    share: Ratio | None


class Effect(NamedTuple):
    """How many times as long ``work`` takes as what it is held against; None: too few rounds."""

    work: Work
    ratio: Ratio | None


class Calls(NamedTuple):
    """MB/s of one engine with the shortest and with the longest calls.

    ``short_seconds`` is how long one of the shortest takes.
    """

    who: str
    what: str
    shortest: int
    longest: int
    short_speed: float
    long_speed: float
    short_seconds: float


def without_start(samples: Samples) -> tuple[dict[Work, list[float]], list[Missing]]:
    """Conversions without what the conversion of one sector takes; others as they are."""
    found: dict[Work, list[float]] = {}
    missing = []
    starts = {
        (work.who, work.encryption): summary(own).median
        for work, own in samples.items()
        if work.section == "start"
    }
    for work, own in samples.items():
        start = starts.get((work.who, work.encryption), 0.0) if work.section == "conversion" else 0
        net = [sample - start for sample in own]
        weight = summary(net).median / summary(own).median
        if start and (weight < WEIGHTY or min(net) <= 0):
            why = "it takes hardly longer than starting the program"
            missing.append(Missing(named(work), why))
            continue
        found[work] = net
    return found, missing


def findings(samples: Samples, noise: float) -> list[Finding]:
    """A row for each kind of work and program: encrypted images first, then plain ones."""
    kinds = dict.fromkeys(_kind(work) for work in samples if _is_about_images(work))
    rows = [row for kind in kinds if (row := _finding(samples, kind, noise)) is not None]
    return sorted(rows, key=lambda row: row.encryption != "aes")


def effects(samples: Samples) -> list[Effect]:
    """What AES instructions off change, for all that was measured both ways."""
    found = []
    for work, own in samples.items():
        other = work._replace(instructions="allowed")
        if work.instructions == "off" and work.section != "cipher" and other in samples:
            found.append(Effect(work, ratio(own, samples[other])))
    return found


def rivals(samples: Samples) -> list[Effect]:
    """How many times as long QEMU takes as this package, for the same work on encrypted images."""
    found = []
    for work, own in samples.items():
        about_images = work.who in RIVALS and _is_about_images(work)
        if about_images and work.encryption == "aes" and work.instructions == "allowed":
            mine = next((samples[w] for w in _ours(work) if w in samples), None)
            if mine is not None:
                found.append(Effect(work, ratio(own, mine)))
    return found


def _ours(work: Work) -> Iterator[Work]:
    ways: tuple[Instructions, ...] = ("allowed", "off")
    for instructions in ways:
        yield work._replace(who=OURS, instructions=instructions)


def calls(samples: Samples, engine: str) -> Iterator[Calls]:
    """How the speed of an engine depends on the bytes of a call."""
    for what in ("encrypt", "decrypt"):
        speeds = {
            work.size: work.size / summary(own).median / 1e6
            for work, own in samples.items()
            if (work.section, work.who, work.what) == ("cipher", engine, what)
        }
        if len(speeds) > 1:
            least, most = min(speeds), max(speeds)
            shortest = least / speeds[least] / 1e6
            yield Calls(engine, what, least, most, speeds[least], speeds[most], shortest)


Kind = tuple[Section, str, str, Encryption, int]


def _kind(work: Work) -> Kind:
    return work.section, work.who, work.what, work.encryption, work.size


def _is_about_images(work: Work) -> bool:
    return work.section in ("conversion", "requests")


def _finding(samples: Samples, kind: Kind, noise: float) -> Finding | None:
    section, who, what, encryption, size = kind
    points = _points(samples, kind)
    found = dependence(points, noise)
    if found is None:
        return None
    share = None
    if encryption == "aes":
        plain = _points(samples, (section, who, what, "none", size))
        share = share_without_cipher(plain, points, found)
    return Finding(section, who, what, encryption, size, found, share)


def _points(samples: Samples, kind: Kind) -> Points:
    """By cluster size; where both were measured, those with AES instructions."""
    found: dict[int, Sequence[float]] = {}
    for wanted in ("off", "allowed"):
        own = {
            work.cluster_size: samples[work]
            for work in samples
            if _kind(work) == kind and work.instructions == wanted
        }
        if own:
            found = own
    return found
