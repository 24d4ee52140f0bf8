"""Where the system refuses ptrace: run the work on an emulated processor and watch that.

valgrind's callgrind counts every instruction, so two payload sizes give a verdict, for the
processor that valgrind shows to programs.  qemu-user tells only which instructions ran.  Neither
sees tables.
What stands in the evidence as ``where`` says that it was not the processor here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe import callgrind, qemuuser
from qcow2crypt.probe.evidence import Evidence, SiteCount
from qcow2crypt.probe.examine import Run, Work
from qcow2crypt.probe.instructions import Site, find_sites
from qcow2crypt.probe.record import Hit, Place, Program
from qcow2crypt.probe.symbols import elf_of
from qcow2crypt.tempfolder import temporary_folder

_SECONDS = 300
_MARK = "QCOW2CRYPT_DOCTOR_"
_NO_TABLES = "tables of software AES cannot be watched in an emulator"


def examine_emulated(work: Work, payload: tuple[int, int], refused: str) -> Evidence:
    """The best evidence without ptrace; ``failure`` where there is no way at all."""
    limits = (f"not on this processor: {refused}", _NO_TABLES)
    try:
        if valgrind := shutil.which("valgrind"):
            return _by_callgrind(valgrind, work, payload, limits)
        if emulator := shutil.which("qemu-x86_64"):
            return _by_qemu(emulator, work, payload, limits)
    except ProbeError as error:
        return Evidence(payload, failure=str(error), limits=limits)
    missing = "neither valgrind nor qemu-x86_64 (qemu-user), which could help, is installed"
    return Evidence(payload, failure=f"cannot tell, because {refused}; {missing}")


def _by_callgrind(
    valgrind: str, work: Work, payload: tuple[int, int], limits: tuple[str, ...]
) -> Evidence:
    counts = [_callgrind_counts(valgrind, work(size)) for size in dict.fromkeys(payload)]
    small, large = counts[0], counts[-1]
    sites = {
        (path, elf.address_of(site.offset)): site
        for path in {path for path, _ in large}
        if (elf := elf_of(path)) is not None
        for site in sites_of(path)
    }
    ran = {key: site for key, site in sites.items() if key in large or key in small}
    places = {key: Place(key[0], site.offset) for key, site in ran.items()}
    found = Counter(path for path, _ in sites)
    return Evidence(
        payload,
        tuple(
            SiteCount(places[key], site, small[key], large[key])  # type: ignore[index]
            for key, site in ran.items()
            if site.last
        ),
        hits={places[key]: Hit(site, 0, site.data, ()) for key, site in ran.items()},
        found=dict(found),
        programs=_programs(work, payload, [path for path, _ in large]),
        where="processor of valgrind",
        limits=limits,
    )


def _callgrind_counts(valgrind: str, run: Run) -> Counter[tuple[str, int]]:
    with temporary_folder("qcow2crypt-doctor-") as folder:
        out = f"--callgrind-out-file={folder}/out.%p"
        _run((valgrind, *callgrind.OPTIONS, out, *run.words), run)
        counts: Counter[tuple[str, int]] = Counter()
        for path in folder.iterdir():
            with path.open(encoding="utf-8", errors="surrogateescape") as lines:
                counts.update(callgrind.read_counts(lines))
    return counts


def _by_qemu(
    emulator: str, work: Work, payload: tuple[int, int], limits: tuple[str, ...]
) -> Evidence:
    run = work(payload[0])
    program = shutil.which(run.words[0]) or run.words[0]
    with temporary_folder("qcow2crypt-doctor-") as folder:
        log = folder / "log"
        words = (emulator, *qemuuser.OPTIONS, "-D", str(log), program, *run.words[1:])
        _run(words, run)
        with log.open(encoding="utf-8", errors="surrogateescape") as lines:
            seen = list(qemuuser.read_log(lines))
    hits = {}
    for path, offset, data in seen:
        file = os.path.realpath(path or program)  # as the kernel names it
        place = Place(file, offset if path else _first_code(file) + offset)
        site = next(iter(find_sites(data)), None)
        if site is not None:
            hits[place] = Hit(site._replace(offset=place.offset), 0, data, ())
    return Evidence(
        (payload[0], payload[0]),
        hits=hits,
        found={path: len(sites_of(path)) for path in {place.path for place in hits}},
        programs=(Program(os.path.realpath(program), tuple({place.path for place in hits})),),
        where="processor of qemu-user",
        limits=limits,
    )


def sites_of(path: str) -> tuple[Site, ...]:
    """The AES instructions in the executable parts of a file, by their offset in it."""
    elf = elf_of(path)
    if elf is None:
        return ()
    return tuple(
        site._replace(offset=site.offset + part.offset)
        for part in elf.segments
        if part.executable
        for site in find_sites(elf.data[part.offset : part.offset + part.size])
    )


def _first_code(path: str) -> int:
    elf = elf_of(path)
    return next((part.offset for part in (elf.segments if elf else ()) if part.executable), 0)


def _programs(work: Work, payload: tuple[int, int], paths: Sequence[str]) -> tuple[Program, ...]:
    program = shutil.which(work(payload[0]).words[0]) or ""
    return (Program(os.path.realpath(program), tuple(dict.fromkeys(paths))),)


def _run(words: Sequence[str], run: Run) -> None:
    """Run to the end, with all that it starts; nothing of it is left, whatever happens."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as said:
        stdin.write(run.stdin)
        stdin.seek(0)
        mark = f"{_MARK}{secrets.token_hex(8)}"
        if setpriv := shutil.which("setpriv"):  # it ends when we are killed
            words = (setpriv, "--pdeathsig", "KILL", "--", *words)
        process = subprocess.Popen(  # noqa: S603 - what the user asked to examine
            words, stdin=stdin, stdout=said, stderr=said, env={**run.environment, mark: ""},
            start_new_session=True,
        )  # fmt: skip
        ended = threading.Event()
        beside = threading.Thread(target=_beside, args=(run, ended), daemon=True)
        beside.start()
        try:
            status = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProbeError(f"'{run.words[0]}' did not end in an emulator") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _end_all(mark)
            ended.set()
            beside.join()
        said.seek(0)
        text = said.read(4000).decode("utf-8", "replace").strip().splitlines()
    if status:
        last = text[-1] if text else ""
        raise ProbeError(f"'{run.words[0]}' ended with {status} in an emulator: {last}")
    if problem := run.check():
        raise ProbeError(problem)


def _end_all(mark: str) -> None:
    """End what left the session of the program, as daemons do: by ``mark`` in its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if mark.encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def _beside(run: Run, ended: threading.Event) -> None:
    """What works with the program while it runs; if it fails, the program tells, or the check."""
    if run.meanwhile is not None:
        with contextlib.suppress(ProbeError):
            run.meanwhile(ended)
