"""The question that all of this answers: what does the AES in a program, and how is that known?

``examine_qemu`` for a program of QEMU, ``examine_command`` for any command, ``examine_self`` for
our own engine.  Each gives a ``Report``, which is data; ``report`` and the command line show it.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import qcow2crypt
from qcow2crypt.errors import ProbeError, PtraceRefusedError
from qcow2crypt.probe import cpu, perf, qemu
from qcow2crypt.probe.emulated import examine_emulated
from qcow2crypt.probe.evidence import Evidence, KernelCount, SiteCount
from qcow2crypt.probe.examine import LARGE, SMALL, Run, Work, examine
from qcow2crypt.probe.images import Images
from qcow2crypt.probe.job import Job
from qcow2crypt.probe.libraries import Library, ciphers_imported, libraries
from qcow2crypt.probe.meaning import meaning
from qcow2crypt.probe.support import why_no_proof
from qcow2crypt.probe.tracer import trace
from qcow2crypt.probe.verdict import Verdict, decide

FORMATS = ("aes", "luks")
PLACEHOLDER = "{}"
"""What stands in a command for the file of payload."""


class Finding(NamedTuple):
    """What was found of one kind of work.

    ``encryption``  aes, luks, or empty for a command
    ``direction``   encrypt, decrypt, or empty for a command
    """

    encryption: str
    direction: str
    verdict: Verdict
    evidence: Evidence
    meaning: str


@dataclass(frozen=True, slots=True)
class Report:
    """All about one program.

    ``subject``  its path, or the words of the command
    ``version``  what it says of itself
    ``imports``  functions of ciphers that the program itself takes from libraries
    ``refused``  formats that it was not asked for or cannot do, and why
    ``problem``  why nothing was found out, empty otherwise
    """

    subject: str
    version: str = ""
    findings: tuple[Finding, ...] = ()
    libraries: tuple[Library, ...] = ()
    imports: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def examine_qemu(name: str, formats: Sequence[str] = FORMATS) -> Report:
    """What does the AES in qemu-img, qemu-io, qemu-nbd or qemu-system, for each format."""
    try:
        binary = qemu.identify(name)
    except ProbeError as error:
        return Report(name, problem=str(error))
    findings: list[Finding] = []
    refused: list[tuple[str, str]] = []
    with Images(qemu.beside(binary.path), LARGE) as images:
        for encryption in formats:
            try:
                for direction, work in qemu.works(binary, images, encryption):
                    findings.append(_find(work, encryption, direction))
            except ProbeError as error:
                refused.append((encryption, str(error)))
    return _report(Report(binary.path, binary.text, tuple(findings), refused=tuple(refused)))


def examine_self(engine: str = "") -> Report:
    """What does the AES in our own engine: the one in use, or the one that is named."""
    home = str(Path(qcow2crypt.__file__).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if engine:
        environment["QCOW2CRYPT_ENGINE"] = engine
    words = (sys.executable, "-m", "qcow2crypt.probe.ownwork")

    def work(direction: str) -> Work:
        return lambda size: Run((*words, direction, str(size)), environment=environment)

    findings = tuple(_find(work(way), "aes", way) for way in (qemu.ENCRYPT, qemu.DECRYPT))
    return _report(Report("qcow2crypt", f"version {qcow2crypt.__version__}", findings))


def examine_command(words: Sequence[str]) -> Report:
    """Does a command use AES instructions, and where.

    With ``{}`` in its words it is run several times, with files of 64 and of 128 KiB of random
    payload in that place, and there is a verdict.  Without, it is run once: what ran is counted,
    and nobody can tell what it was for.
    """
    subject = " ".join(words)
    if not any(PLACEHOLDER in word for word in words):
        try:
            evidence = _single(tuple(words))
        except ProbeError as error:
            return Report(subject, problem=str(error))
        verdict = decide(evidence)
        return _report(
            Report(subject, findings=(Finding("", "", verdict, evidence, _mean(verdict)),))
        )
    with tempfile.TemporaryDirectory(prefix="qcow2crypt-doctor-") as folder:

        def work(size: int) -> Run:
            payload = Path(folder) / f"payload-{size}"
            if not payload.exists():
                payload.write_bytes(secrets.token_bytes(size))
            return Run(tuple(word.replace(PLACEHOLDER, str(payload)) for word in words))

        return _report(Report(subject, findings=(_find(work, "", ""),)))


def _find(work: Work, encryption: str, direction: str) -> Finding:
    """The evidence in the best way that this system allows, and the verdict."""
    evidence = _gather(work)
    verdict = decide(evidence)
    return Finding(encryption, direction, verdict, evidence, _mean(verdict))


def _gather(work: Work) -> Evidence:
    if reason := why_no_proof():
        return Evidence((SMALL, LARGE), failure=f"cannot tell, because {reason}")
    try:
        return examine(work)
    except PtraceRefusedError as error:
        return examine_emulated(work, str(error))


def _mean(verdict: Verdict) -> str:
    return meaning(verdict, cpu.look().has("aes"), os.environ)


def _report(report: Report) -> Report:
    evidences = [finding.evidence for finding in report.findings]
    programs = [program for each in evidences for program in each.programs]
    imports = ciphers_imported(programs[-1].path) if programs else ()
    return replace(report, libraries=libraries(evidences), imports=imports)


def _single(words: tuple[str, ...]) -> Evidence:
    """One run, with as much counted as can be at once; output goes to standard error."""
    if reason := why_no_proof():
        raise ProbeError(f"cannot tell, because {reason}")
    registers = bool(perf.why_not())
    files = (0, 2, 2)
    seen = trace(
        Job(words, first=True, system_calls=True, registers=registers, files=files), seconds=None
    )
    sites = tuple(
        SiteCount(place, seen.hits[place].site, count, count)
        for place, count in seen.counts.items()
        if place in seen.hits
    )
    limits = list(seen.limits)
    if seen.signal:
        limits.append(f"the command crashed: signal {seen.signal}")
    elif seen.status:
        limits.append(f"the command ended with {seen.status}")
    if seen.left:
        limits.append(f"{seen.left} processes were left when it had ended; they were ended")
    return Evidence(
        (0, 0),
        sites,
        kernel=KernelCount(
            seen.kernel.sent, seen.kernel.sent, tuple(sorted(seen.kernel.ciphers)),
            seen.kernel.tried,
        ),
        hits=seen.hits,
        found={path: len(found) for path, found in seen.sites.items()},
        programs=tuple(seen.programs),
        uncounted=frozenset(seen.partly),
        limits=tuple(limits),
    )  # fmt: skip
