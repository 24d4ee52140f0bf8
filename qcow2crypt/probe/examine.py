"""Run a piece of work several times, with two payload sizes, and gather the evidence.

First a run with a breakpoint on every AES instruction: which of them run?  Then, four places at a
time, how often: the last rounds that ran, and the tables of software AES, for both sizes.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe import perf
from qcow2crypt.probe.evidence import Evidence, KernelCount, SiteCount, TableCount
from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.job import Job
from qcow2crypt.probe.record import Place, Trace
from qcow2crypt.probe.tables import Table
from qcow2crypt.probe.tracer import trace
from qcow2crypt.probe.watch import AT_ONCE

SMALL, LARGE = 64 * 1024, 128 * 1024
"""Payload of the two runs, in bytes."""
_SECONDS = 60.0
_DOUBTFUL = 8
_TABLES = 24
_TRIES = 3
MANY = 12
"""So many instructions to count make it worth while to look which of them can matter."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a piece of work.

    ``stdin``      what it reads from standard input
    ``reads``      the file with the payload: before it is opened nothing is done for the payload
    ``meanwhile``  called while it runs, such as a client of a server
    ``check``      called after a run that ended well: what is wrong with the result, or nothing
    """

    words: tuple[str, ...]
    stdin: bytes = b""
    reads: str = ""
    meanwhile: Callable[[threading.Event], object] | None = None
    check: Callable[[], str] = field(default=str)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


Work = Callable[[int], Run]
"""From bytes of payload to a run that handles so many, prepared anew."""


class WorkFailedError(ProbeError):
    """The work itself went wrong, so there is nothing to look at."""


def examine(work: Work, payload: tuple[int, int] = (SMALL, LARGE)) -> Evidence:
    """Gather the evidence.  Raises PtraceRefusedError where nothing can be traced."""
    small, large = payload
    registers = bool(perf.why_not())
    try:
        first = _first(work, payload, registers=registers)
        sites, tables = _to_count(first)
        if len(sites) > MANY:
            sites = _later(work, payload, sites, registers=registers)
        places = (*sites, *tables)
        counts: dict[int, dict[Place, int]] = {small: {}, large: {}}
        limits = [*first.limits, *_left_out(first, places)]
        partly: set[Place] = set()
        for start in range(0, len(places), AT_ONCE):
            group = places[start : start + AT_ONCE]
            for size in (small, large):
                job = Job((), sites=False, places=group, registers=registers)
                seen = _do(work, size, job)
                counts[size].update(seen.counts)
                limits += seen.limits
                partly |= seen.partly & sites.keys()
        kernel = _kernel(work, first, small)
    except WorkFailedError as error:
        return Evidence(payload, failure=str(error))
    evidence = Evidence(
        payload,
        tuple(
            SiteCount(place, site, counts[small].get(place, 0), counts[large].get(place, 0))
            for place, site in sites.items()
        ),
        tuple(
            TableCount(place, table, counts[small].get(place, 0), counts[large].get(place, 0))
            for place, table in tables.items()
        ),
        kernel,
        first.hits,
        {path: len(found) for path, found in first.sites.items()},
        tuple(first.programs),
        uncounted=frozenset(partly),
        limits=tuple(dict.fromkeys(limits)),
    )
    return _with_users(work, evidence)


def _to_count(first: Trace) -> tuple[dict[Place, Site], dict[Place, Table]]:
    """What decides: last rounds that ran, or are in doubt; one watchpoint for each table."""
    sites = {place: hit.site for place, hit in first.hits.items() if hit.site.last}
    doubtful = [(place, site) for place, site in first.doubtful.items() if site.last]
    sites |= dict(doubtful[:_DOUBTFUL])
    one_each = {(place.path, table.name): place for place, table in first.tables.items()}
    tables = {place: first.tables[place] for place in list(one_each.values())[:_TABLES]}
    return sites, tables


def _first(work: Work, payload: tuple[int, int], *, registers: bool) -> Trace:
    """What runs with either size: the rest of a run may take another way than its middle.

    Gives what the large one showed, with the hits of both.
    """
    job = Job((), system_calls=True, registers=registers)
    small, large = (_do(work, size, job) for size in payload)
    large.hits = {**small.hits, **large.hits}
    return large


def _left_out(first: Trace, places: tuple[Place, ...]) -> list[str]:
    """What was found and will not be counted: there is no end to it in some programs."""
    doubtful = sum(site.last and place not in places for place, site in first.doubtful.items())
    tables = len({(place.path, table.name) for place, table in first.tables.items()})
    watched = sum(place.data for place in places)
    return [
        *(
            [f"places that may be AES instructions were not watched: {doubtful}"]
            if doubtful
            else []
        ),
        *([f"tables were not watched: {tables - watched}"] if tables > watched else []),
    ]


def _later(
    work: Work, payload: tuple[int, int], sites: dict[Place, Site], *, registers: bool
) -> dict[Place, Site]:
    """Those that run after the payload was opened, with either size: others cannot be for it.

    A library that tests itself runs many more than it uses then.
    """
    if not work(payload[0]).reads:
        return sites
    kept: set[Place] = set()
    for size in payload:
        job = Job((), system_calls=True, registers=registers)
        seen = _do(work, size, job, late=True)
        if not seen.opened:  # under another name, or in a way that is not seen
            return sites
        kept |= seen.hits.keys()
    return {place: site for place, site in sites.items() if place in kept or not site.sure}


def _kernel(work: Work, first: Trace, small: int) -> KernelCount:
    use = first.kernel
    if not use.sent:
        return KernelCount(ciphers=tuple(sorted(use.ciphers)), tried=use.tried)
    less = _do(work, small, Job((), sites=False, system_calls=True)).kernel
    return KernelCount(less.sent, use.sent, tuple(sorted(use.ciphers)), use.tried)


def _with_users(work: Work, evidence: Evidence) -> Evidence:
    """Find out which instructions read the busiest table, if one is read for the payload."""
    busiest = max(evidence.tables, key=evidence.per_block, default=None)
    if busiest is None or evidence.per_block(busiest) <= 0:
        return evidence
    try:
        job = Job((), sites=False, places=(busiest.place,), registers=True)
        seen = _do(work, evidence.payload[0], job)
    except WorkFailedError:
        return evidence
    users = tuple(seen.users.get(busiest.place, {}).items())
    known = busiest._replace(users=tuple(sorted(users, key=lambda row: -row[1])))
    return replace(
        evidence, tables=tuple(known if each is busiest else each for each in evidence.tables)
    )


def examine_once(words: tuple[str, ...]) -> Evidence:
    """One run of a command as it is, with as much counted as can be at once.

    It reads our standard input; what it prints goes to standard error.  Raises ProbeError where it
    cannot be started, PtraceRefusedError where it cannot be traced.
    """
    job = Job(words, first=True, system_calls=True, registers=bool(perf.why_not()), files=(0, 2, 2))
    seen = trace(job)
    limits = list(seen.limits)
    if seen.signal:
        limits.append(f"the command crashed: signal {seen.signal}")
    elif seen.status:
        limits.append(f"the command ended with {seen.status}")
    if seen.left:
        limits.append(f"processes left when it had ended, which were ended: {seen.left}")
    use = seen.kernel
    return Evidence(
        (0, 0),
        tuple(
            SiteCount(place, seen.hits[place].site, count, count)
            for place, count in seen.counts.items()
            if place in seen.hits
        ),
        kernel=KernelCount(use.sent, use.sent, tuple(sorted(use.ciphers)), use.tried),
        hits=seen.hits,
        found={path: len(found) for path, found in seen.sites.items()},
        programs=tuple(seen.programs),
        uncounted=frozenset(seen.partly),
        limits=tuple(limits),
    )


def _do(work: Work, size: int, job: Job, *, late: bool = False) -> Trace:
    """One traced run; ``late`` puts breakpoints there only when the payload is opened.

    A run that fails is done again: some work fails under load.
    """
    problem = ""
    for _ in range(_TRIES):
        run = work(size)
        with _files(run.stdin) as (files, said):
            seen = trace(
                replace(
                    job,
                    words=run.words,
                    environment=run.environment,
                    files=files,
                    after=run.reads if late else "",
                ),
                seconds=_SECONDS,
                meanwhile=run.meanwhile,
            )
            problem = _problem(run, seen, said)
        if not problem:
            return seen
    raise WorkFailedError(problem)


def _problem(run: Run, seen: Trace, said: int) -> str:
    name = os.path.basename(run.words[0])  # noqa: PTH119 - a word of a command line
    if seen.timed_out:
        late = f"did not end within {_SECONDS:.0f} seconds; it was ended"
        return f"'{name}': {seen.companion}" if seen.companion else f"'{name}' {late}"
    if seen.signal:
        return f"'{name}' crashed: signal {seen.signal}"
    if seen.status:
        text = os.pread(said, 2000, 0).decode("utf-8", "replace").strip().splitlines()
        return f"'{name}' ended with {seen.status}" + (f": {text[-1]}" if text else "")
    if seen.companion:
        return f"'{name}': {seen.companion}"
    return run.check()


@contextmanager
def _files(stdin: bytes) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Standard input with ``stdin``, and one file for all that is printed."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as said:
        source.write(stdin)
        source.seek(0)
        yield (source.fileno(), said.fileno(), said.fileno()), said.fileno()
