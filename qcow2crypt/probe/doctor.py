"""The question that all of this answers: what does the AES in a program, and how is that known?

``examine_qemu`` for a program of QEMU, ``examine_command`` for any command, ``examine_self`` for
our own engine.  Each gives a ``Report``, which is data; ``report`` and the command line show it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import qcow2crypt
from qcow2crypt.errors import ProbeError, PtraceRefusedError
from qcow2crypt.probe import cpu, qemu
from qcow2crypt.probe.emulated import examine_emulated
from qcow2crypt.probe.evidence import Evidence
from qcow2crypt.probe.examine import LARGE, SMALL, Run, Work, examine, examine_once
from qcow2crypt.probe.images import Images
from qcow2crypt.probe.libraries import Library, ciphers_imported, libraries
from qcow2crypt.probe.meaning import meaning
from qcow2crypt.probe.support import why_no_proof
from qcow2crypt.probe.verdict import Verdict, decide
from qcow2crypt.tempfolder import temporary_folder

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


def examine_qemu(
    name: str, formats: Sequence[str] = FORMATS, images: Images | None = None
) -> Report:
    """What does the AES in qemu-img, qemu-io, qemu-nbd or qemu-system, for each format.

    ``images`` of an earlier call save the seconds that making LUKS images takes.
    """
    try:
        binary = qemu.identify(name)
    except ProbeError as error:
        return Report(name, problem=str(error))
    findings: list[Finding] = []
    refused: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        if images is None:
            images = stack.enter_context(Images(qemu.beside(binary.path), LARGE))
        for encryption in formats:
            try:
                for direction, work in qemu.works(binary, images, encryption):
                    findings.append(_find(work, encryption, direction))
            except ProbeError as error:  # noqa: PERF203 - of two formats, one may do
                refused.append((encryption, str(error)))
    return _report(Report(binary.path, binary.text, tuple(findings), refused=tuple(refused)))


def examine_all(names: Sequence[str], formats: Sequence[str] = FORMATS) -> Iterator[Report]:
    """``examine_qemu`` for several programs; those with the same qemu-img share its images."""
    with contextlib.ExitStack() as stack:
        shared: dict[str | None, Images] = {}
        for name in names:
            maker = qemu.beside(shutil.which(name) or name)
            if maker not in shared:
                shared[maker] = stack.enter_context(Images(maker, LARGE))
            yield examine_qemu(name, formats, shared[maker])


def examine_self(engine: str = "") -> Report:
    """What does the AES in our own engine: the one in use, or the one that is named."""
    paths = [path or os.curdir for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if engine:
        environment["QCOW2CRYPT_ENGINE"] = engine
    # -S: nothing of other packages is started, and PYTHONPATH has all that is needed.
    words = (sys.executable, "-S", "-m", "qcow2crypt.probe.ownwork")
    with temporary_folder("qcow2crypt-doctor-") as folder:

        def work(direction: str) -> Work:
            def run(size: int) -> Run:
                file = str(_payload(folder, size))
                return Run((*words, direction, file), reads=file, environment=environment)

            return run

        findings = tuple(_find(work(way), "aes", way) for way in (qemu.ENCRYPT, qemu.DECRYPT))
    return _report(Report("qcow2crypt", f"version {qcow2crypt.__version__}", findings))


def _payload(folder: Path, size: int) -> Path:
    """A file of so many random bytes."""
    path = folder / f"payload-{size}"
    if not path.exists():
        path.write_bytes(secrets.token_bytes(size))
    return path


def examine_command(words: Sequence[str]) -> Report:
    """Does a command use AES instructions, and where.

    With ``{}`` in its words it is run several times, with files of 64 and of 128 KiB of random
    payload in that place, and there is a verdict.  Without, it is run once: what ran is counted,
    and nobody can tell what it was for.
    """
    subject = " ".join(words)
    if shutil.which(words[0]) is None:
        return Report(subject, problem=f"there is no program '{words[0]}'")
    if not any(PLACEHOLDER in word for word in words):
        try:
            return _report(Report(subject, findings=(_find_once(tuple(words)),)))
        except ProbeError as error:
            return Report(subject, problem=str(error))
    with temporary_folder("qcow2crypt-doctor-") as folder:

        def work(size: int) -> Run:
            payload = _payload(folder, size)
            real = tuple(word.replace(PLACEHOLDER, str(payload)) for word in words)
            return Run(real, reads=str(payload))

        return _report(Report(subject, findings=(_find(work, "", ""),)))


def _find(work: Work, encryption: str, direction: str) -> Finding:
    """The evidence in the best way that this system allows, and the verdict."""
    evidence = _gather(work)
    verdict = decide(evidence)
    return Finding(encryption, direction, verdict, evidence, _mean(verdict, evidence))


def _gather(work: Work) -> Evidence:
    if reason := why_no_proof():
        return Evidence((SMALL, LARGE), failure=f"cannot tell, because {reason}")
    try:
        return examine(work)
    except PtraceRefusedError as error:
        return examine_emulated(work, (SMALL, LARGE), str(error))


def _find_once(words: tuple[str, ...]) -> Finding:
    if reason := why_no_proof():
        raise ProbeError(f"cannot tell, because {reason}")
    try:
        evidence = examine_once(words)
    except PtraceRefusedError as error:
        evidence = examine_emulated(lambda _: Run(words), (0, 0), str(error))
    verdict = decide(evidence)
    return Finding("", "", verdict, evidence, _mean(verdict, evidence))


def _mean(verdict: Verdict, evidence: Evidence) -> str:
    return meaning(verdict, evidence, cpu.look().has("aes"), os.environ)


def _report(report: Report) -> Report:
    evidences = [finding.evidence for finding in report.findings]
    programs = [program for each in evidences for program in each.programs]
    imports = ciphers_imported(programs[-1].path) if programs else ()
    return replace(report, libraries=libraries(evidences), imports=imports)
