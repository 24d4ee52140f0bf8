"""The plain words: does performance depend on the cluster size, why, and what else was seen.

A pure function of findings: every number in the text is from them.  It never says more than they
do; where they do not tell, it says so and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from qcow2crypt.bench.dependence import MATTERS
from qcow2crypt.bench.findings import Calls, Effect, Finding
from qcow2crypt.bench.noise import Noise
from qcow2crypt.bench.samples import CONFIDENCE, Ratio, confidence
from qcow2crypt.bench.subjects import OURS, Work, in_words
from qcow2crypt.units import SECTOR_SIZE

Verdict = Literal["yes", "partly", "no", "cannot tell", "nothing measured"]

_NOT_COUNTED = (
    "Without the start of programs: qcow2crypt runs in this process, and what converting one "
    "sector takes is taken off for both. qemu-io times each request itself, without its command."
)
MOSTLY = 0.7
"""A part of a difference that is most of it; under 1 - MOSTLY it is little of it."""


class Paragraph(NamedTuple):
    """A heading and its lines."""

    about: str
    lines: tuple[str, ...]


class Answer(NamedTuple):
    """The answer: one word for programs, paragraphs for people."""

    verdict: Verdict
    text: tuple[Paragraph, ...]


def answer(
    findings: Sequence[Finding],
    effects: Sequence[Effect],
    rivals: Sequence[Effect],
    calls: Sequence[Calls],
    noise: Noise,
    *,
    disk_size: int,
    rounds: int,
    off: str,
) -> Answer:
    """The words for what was found.  ``off`` tells how AES instructions were switched off."""
    aes = [row for row in findings if row.encryption == "aes"]
    verdict = overall(aes)
    headline = _headline(verdict, aes)
    text = [Paragraph("Does performance depend on the cluster size?", (headline, *_rows(aes)))]
    sizes = sorted({size for row in aes for size in row.dependence[4:6]})
    if sizes:
        text.append(Paragraph("Why", tuple(_why(aes, calls, disk_size, sizes))))
    if effects:
        lines = tuple(_effect(effect) for effect in effects if _is_shown(effect, effects))
        text.append(Paragraph("Do the AES instructions matter?", (off, *lines)))
    if rivals:
        lines = tuple(_rival(rival) for rival in rivals if _is_shown(rival, rivals))
        text.append(Paragraph("Beside QEMU", (_NOT_COUNTED, *lines)))
    text.append(Paragraph("Can these figures be trusted?", (noise.text, _sure(rounds))))
    return Answer(verdict, tuple(text))


def _sure(rounds: int) -> str:
    sure = confidence(rounds)
    rows = "1 round" if rounds == 1 else f"{rounds} rounds"
    text = f"Intervals come from {rows}: they hold the true value {sure:.1%} of the time."
    return text if sure >= CONFIDENCE else f"{text} Without --quick, or with --full, it is more."


def overall(findings: Sequence[Finding]) -> Verdict:
    """One word for all rows.

    >>> overall([])
    'nothing measured'
    """
    verdicts = {row.dependence.verdict for row in findings}
    if not verdicts:
        return "nothing measured"
    if verdicts == {"depends"}:
        return "yes"
    if "depends" in verdicts:
        return "partly"
    return "no" if verdicts == {"steady"} else "cannot tell"


def _headline(verdict: Verdict, rows: Sequence[Finding]) -> str:
    counts = {
        name: sum(row.dependence.verdict == name for row in rows)
        for name in ("depends", "steady", "cannot tell")
    }
    of_all = f"of the {len(rows)} kinds of work on encrypted images"
    if verdict == "yes":
        return f"Yes. Each {of_all} depends on it in this run."
    if verdict == "partly":
        return _in_part(counts, len(rows))
    if verdict == "no":
        return (
            f"No. In this run none {of_all} takes {MATTERS} times as long with one cluster size "
            "as with another."
        )
    if verdict == "nothing measured":
        return "This run cannot tell: no encrypted image was measured with two cluster sizes."
    return (
        "This run cannot tell: differences are too small beside the noise, or there were too few "
        "rounds. Measure again on a quiet machine, or longer."
    )


def _in_part(counts: Mapping[str, int], rows: int) -> str:
    parts = [f"that depend on it in this run: {counts['depends']} of {rows}"]
    parts += [f"that do not: {counts['steady']}"] if counts["steady"] else []
    parts += [f"where it cannot be told: {counts['cannot tell']}"] if counts["cannot tell"] else []
    return f"In part. Kinds of work on encrypted images {'; '.join(parts)}."


def _rows(rows: Sequence[Finding]) -> Iterator[str]:
    for row in rows:
        yield f"{_subject(row)}: {_told(row)}"


def _subject(row: Finding) -> str:
    if row.section == "requests":
        return f"{row.who}, random {row.what}s of {in_words(row.size)}"
    return f"{row.who}, {row.what}"


def _told(row: Finding) -> str:
    found = row.dependence
    slowest, fastest = in_words(found.slowest), in_words(found.fastest)
    interval = f"{found.ratio:.2f} times ({found.low:.2f} to {found.high:.2f})"
    if found.verdict == "steady":
        return f"no difference worth the name; {slowest} takes {interval} as long as {fastest}."
    if not found.ratio:
        return "cannot be told: too few rounds."
    if found.verdict == "cannot tell":
        return f"cannot be told; {slowest} took {interval} as long as {fastest}."
    after = ""
    if found.steady_from is not None:
        after = f"; from {in_words(found.steady_from)} on it makes no difference"
    return f"clusters of {slowest} take {interval} as long as {fastest}{after}."


def _why(
    rows: Sequence[Finding], calls: Sequence[Calls], disk_size: int, sizes: Sequence[int]
) -> Iterator[str]:
    yield (
        f"It is not the unit of the encryption: that is the sector of {SECTOR_SIZE} bytes, each a "
        "message of its own with its own IV, whatever the cluster size. What changes with the "
        "cluster size is the metadata and how much is asked for at once."
    )
    small, large = sizes[0], sizes[-1]
    yield (
        f"Metadata: a disk of {in_words(disk_size)} has {-(-disk_size // small)} clusters of "
        f"{in_words(small)}, each with an entry in a table and a refcount, or "
        f"{-(-disk_size // large)} of {in_words(large)}."
    )
    for row in rows:
        if row.dependence.verdict == "depends" and row.share is not None:
            yield f"{_subject(row)}: {_share(row.share)}"
    for call in calls:
        yield _call(call)


def _share(share: Ratio) -> str:
    part = (
        f"of the difference {share.median:.0%} ({share.low:.0%} to {share.high:.0%}) is there in "
        "plain images too"
    )
    if share.low >= MOSTLY:
        return f"{part}: it is not the encryption, but metadata and small requests."
    if share.high <= 1 - MOSTLY:
        return f"{part}: it is what encryption adds, the same bytes in smaller pieces."
    if share.low < 1 - MOSTLY and share.high > MOSTLY:
        return f"{part}: where it comes from cannot be told."
    return f"{part}: metadata and smaller pieces for the cipher have both a part in it."


def _call(call: Calls) -> str:
    factor = call.long_speed / call.short_speed
    speeds = (
        f"{call.short_speed:.0f} MB/s in calls of {in_words(call.shortest)}, "
        f"{call.long_speed:.0f} MB/s in calls of {in_words(call.longest)}"
    )
    head = f"The cipher alone ({call.who}, {call.what}) does {speeds}"
    if factor >= MATTERS:
        return (
            f"{head}: {factor:.1f} times. A short call takes {1e6 * call.short_seconds:.2f} "
            f"microseconds; at the speed of the long ones it would be "
            f"{1e6 * call.short_seconds / factor:.2f}. The rest is what a call costs, and that "
            "few sectors cannot be done side by side."
        )
    if factor > 1 / MATTERS:
        return f"{head}: the length of a run hardly matters to it."
    return f"{head}: long runs do not fit the caches of the processor."


def _is_shown(effect: Effect, effects: Sequence[Effect]) -> bool:
    """One cluster size is enough for words: the usual one, or what there is."""
    sizes = {other.work.cluster_size for other in effects}
    return effect.work.cluster_size == (65536 if 65536 in sizes else max(sizes))


def _place(work: Work) -> str:
    what = work.what
    if work.section == "requests":
        what = f"random {work.what}s of {in_words(work.size)}"
    return f"{work.who}, {what}, clusters of {in_words(work.cluster_size)}"


def _rival(rival: Effect) -> str:
    found = rival.ratio
    head = f"{_place(rival.work)}, encrypted"
    if found is None:
        return f"{head}: cannot be told, too few rounds."
    return (
        f"{head}: {found.median:.2f} times ({found.low:.2f} to {found.high:.2f}) as long as "
        f"{OURS} takes."
    )


def _effect(effect: Effect) -> str:
    work, found = effect
    head = _place(work)
    if found is None:
        return f"{head}: cannot be told, too few rounds."
    interval = f"{found.median:.2f} times ({found.low:.2f} to {found.high:.2f}) as long"
    if found.low > 1:
        return f"{head}: {interval} without AES instructions."
    if found.high < 1:
        return f"{head}: {interval} without AES instructions, which is not to be expected: noise."
    more = (
        ""
        if work.who == OURS
        else (
            " Either it is noise, or its library does not listen to the switches, or does not use "
            "AES instructions anyway."
        )
    )
    return f"{head}: no difference was seen; {interval} without AES instructions.{more}"
