"""Other programs, beside ours in the same run: qemu-img, qemu-io, openssl.

Each sample is a process of its own.  They run in the folder of the files.  What starting costs is
measured by itself for qemu-img (``start``); qemu-io and openssl time their work themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from qcow2crypt.bench.cipher import PASSPHRASE
from qcow2crypt.bench.disks import ENCRYPTIONS, Disks
from qcow2crypt.bench.ours import USUAL_CLUSTER, encryptions, sizes
from qcow2crypt.bench.programs import told
from qcow2crypt.bench.qemuio import request_seconds
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.subjects import (
    FROM_RAW,
    TO_RAW,
    Encryption,
    Instructions,
    Missing,
    Subject,
    Work,
)
from qcow2crypt.errors import BenchError
from qcow2crypt.units import SECTOR_SIZE

PROGRAMS = ("qemu-img", "qemu-io", "openssl")
SWITCHES: Mapping[str, str] = {
    "NETTLE_FAT_OVERRIDE": "none",
    "GNUTLS_CPUID_OVERRIDE": "0x1",
    "OPENSSL_ia32cap": "~0x200000200000000",
}
"""What the libraries are told, to do without AES instructions.  With 0x1 gnutls leaves the work to
nettle.  libgcrypt and the AES of QEMU itself have no such switch."""

_SECRET = ("--object", f"secret,id=key,data={PASSPHRASE}")
_OPENSSL = re.compile(r"^\+R:(\d+):[^:]*:([0-9.]+)$", re.MULTILINE)


def installed() -> tuple[dict[str, str], list[Missing]]:
    """The first line that each program says of its version; those that are not there."""
    found, missing = {}, []
    for program in PROGRAMS:
        if shutil.which(program) is None:
            missing.append(Missing(program, "it is not installed, or not on PATH"))
            continue
        word = "version" if program == "openssl" else "--version"
        try:
            found[program] = _run([program, word], Path.cwd()).splitlines()[0]
        except (BenchError, IndexError) as error:
            missing.append(Missing(program, f"it does not tell its version: {error}"))
    return found, missing


def conversions(disks: Disks, settings: Settings, instructions: Instructions) -> Iterator[Subject]:
    """``qemu-img convert`` in both directions, as ``ours.conversions``."""
    for cluster_size in sizes(settings, twin=instructions == "off"):
        for encryption in encryptions(twin=instructions == "off"):
            for what in (FROM_RAW, TO_RAW):
                work = Work(
                    "conversion",
                    "qemu-img",
                    what,
                    encryption,
                    instructions,
                    disks.size,
                    cluster_size,
                )
                yield _conversion(disks, work, disks.raw)


def start(disks: Disks) -> Iterator[Subject]:
    """``qemu-img convert`` of one sector."""
    for encryption in ENCRYPTIONS:
        work = Work(
            "start", "qemu-img", FROM_RAW, encryption, "allowed", SECTOR_SIZE, USUAL_CLUSTER
        )
        yield _conversion(disks, work, disks.sector)._replace(check=None)


def requests(disks: Disks, settings: Settings, instructions: Instructions) -> Iterator[Subject]:
    """Random reads and writes by qemu-io, as ``ours.requests``."""
    for cluster_size in sizes(settings, twin=instructions == "off"):
        for encryption in encryptions(twin=instructions == "off"):
            for size in settings.request_sizes:
                for what in ("read", "write"):
                    work = Work(
                        "requests", "qemu-io", what, encryption, instructions, size, cluster_size
                    )
                    yield _random(disks, work, disks.places(size, settings.requests))


def ciphers(folder: Path) -> Iterator[Subject]:
    """``openssl speed`` on messages of one sector, with one core."""
    for instructions in ("allowed", "off"):
        for what in ("encrypt", "decrypt"):
            yield _openssl(
                folder, Work("cipher", "openssl", what, "aes", instructions, SECTOR_SIZE)
            )


def environment(instructions: Instructions) -> dict[str, str]:
    """The environment for a program: the switches set, or none of them."""
    found = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    return found | dict(SWITCHES) if instructions == "off" else found


def _conversion(disks: Disks, work: Work, raw: Path) -> Subject:
    image = disks.image(work.cluster_size, work.encryption)
    to_raw = work.what == TO_RAW
    if to_raw:
        words = ["--image-opts", "-O", "raw", _opened(image, work.encryption)]
    else:
        aes = "encrypt.format=aes,encrypt.key-secret=key," if work.encryption == "aes" else ""
        given = f"{aes}cluster_size={work.cluster_size}"
        words = ["-f", "raw", "-O", "qcow2", "-o", given, raw.name]
    command = ["qemu-img", "convert", *_SECRET, *words, disks.out.name]

    def sample() -> float:
        disks.new_output()
        begin = time.perf_counter()
        _run(command, disks.folder, work.instructions)
        return time.perf_counter() - begin

    def check() -> None:
        if to_raw:
            disks.same(disks.out, "none", "raw")
        else:
            disks.same(disks.out, work.encryption, "qcow2")

    return Subject(work, sample, check)


def _random(disks: Disks, work: Work, places: list[int]) -> Subject:
    image = disks.image(work.cluster_size, work.encryption)
    command = ["qemu-io", *_SECRET, "--image-opts", _opened(image, work.encryption)]
    warm = [f"read -q {place} {work.size}" for place in places]
    if work.what == "read":
        script = [*warm, *(f"read -C {place} {work.size}" for place in places)]
    else:
        warm.append(f"write -q -P 90 {places[0]} {work.size}")
        script = [*warm, *(f"write -C -P 90 {place} {work.size}" for place in places)]

    def sample() -> float:
        given = environment(work.instructions)
        return statistics.fmean(request_seconds(command, script, disks.folder, given))

    def check() -> None:
        if work.what == "write":
            looks = [f"read -q -P 90 {place} {work.size}" for place in places]
            request_seconds(command, looks, disks.folder, environment(work.instructions))

    return Subject(work, sample, check)


def _openssl(folder: Path, work: Work) -> Subject:
    way = ["-decrypt"] if work.what == "decrypt" else []
    words = ["-mr", *way, "-evp", "aes-128-cbc", "-bytes", str(work.size), "-seconds", "1"]

    def sample() -> float:
        said = _run(["openssl", "speed", *words], folder, work.instructions)
        found = _OPENSSL.search(said)
        if found is None or not int(found[1]):
            raise BenchError("'openssl speed' of this version does not tell what is needed")
        return float(found[2]) / int(found[1])

    return Subject(work, sample)


def _opened(image: Path, encryption: Encryption) -> str:
    key = ",encrypt.key-secret=key" if encryption == "aes" else ""
    return f"driver=qcow2,file.filename={image.name}{key}"


def _run(words: list[str], folder: Path, instructions: Instructions = "allowed") -> str:
    return told(words, folder, environment(instructions))
