"""The speed of the cipher alone: each engine, each kernel, by the bytes that it gets in one call.

A call is what the reader and the writer of images make: a run of sectors, each with its IV, from
buffer to buffer.  A sample is as many calls as fit in some milliseconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

from qcow2crypt import engines
from qcow2crypt.bench.settings import Settings
from qcow2crypt.bench.subjects import Instructions, Missing, Subject, Work, in_words
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import BenchError
from qcow2crypt.units import SECTOR_SIZE

PASSPHRASE = "benchmark"  # protects nothing: the disk is made of random bytes
_FIRST_SECTOR = 2048
DIRECTIONS = ("encrypt", "decrypt")
_PROBE = 8 * SECTOR_SIZE


def subjects(settings: Settings) -> tuple[list[Subject], list[Missing]]:
    """Every engine and kernel that works here, encrypting and decrypting calls of every size.

    What would take a slow engine too long is left out.
    """
    found, missing = [], list(_absent())
    for engine in contenders():
        per_byte = 1 / speed(engine)
        sizes = [s for s in settings.call_sizes if 20 * s * per_byte <= settings.patience]
        if len(sizes) < len(settings.call_sizes):
            most = in_words(max(sizes, default=0))
            why = f"too slow for a run of this length: measured up to {most} in a call"
            missing.append(Missing(f"cipher: {engine}", why))
        for size in sizes:
            found += [_subject(engine, way, size, settings.call_seconds) for way in DIRECTIONS]
    return found, missing


def contenders() -> list[str]:
    """The names of all engines that work here, with each kernel of those that have kernels."""
    status = engines.status()
    kernels = [f"native:{kernel.name}" for kernel in status.kernels if kernel.available]
    others = [e.name for e in status.engines if e.available and e.name != "native"]
    return kernels + others


def instructions(engine: str) -> Instructions:
    """May this engine use AES instructions?  pycryptodome does where the processor has them."""
    name, _, kernel = engine.partition(":")
    if name == "pycryptodome":
        return "allowed"
    if name != "native":
        return "off"
    rows = engines.status().kernels
    wanted = kernel or next((row.name for row in rows if row.available), "")
    needs = next((row.needs for row in rows if row.name == wanted), ())
    return "allowed" if any("aes" in feature for feature in needs) else "off"


def without_instructions() -> str | None:
    """The kernel of ``native`` that a processor without AES instructions would use, if any."""
    kernels = [name for name in contenders() if name.startswith("native:")]
    return next((name for name in kernels if instructions(name) == "off"), None)


def speed(engine: str | None = None) -> float:
    """About how many bytes a second an engine encrypts at best; None is the one used here."""
    cipher = SectorCipher.from_passphrase(PASSPHRASE, engine=engine)
    data = bytearray(_PROBE)
    cipher.encrypt_into(data, data, 0)
    best, end = math.inf, time.perf_counter() + 0.005
    while best == math.inf or time.perf_counter() < end:
        start = time.perf_counter()
        cipher.encrypt_into(data, data, 0)
        best = min(best, time.perf_counter() - start)
    return _PROBE / max(best, 1e-7)


def _subject(engine: str, direction: str, size: int, seconds: float) -> Subject:
    cipher = SectorCipher.from_passphrase(PASSPHRASE, engine=engine)
    call = cipher.encrypt_into if direction == "encrypt" else cipher.decrypt_into
    source, target = bytearray(), bytearray()
    calls = 0

    def sample() -> float:
        nonlocal calls
        if not calls:  # the first sample finds out how many calls make one
            source[:], target[:] = os.urandom(size), bytes(size)
            call(source, target, _FIRST_SECTOR)
            start = time.perf_counter()
            call(source, target, _FIRST_SECTOR)
            calls = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
        start = time.perf_counter()
        for _ in range(calls):
            call(source, target, _FIRST_SECTOR)
        return (time.perf_counter() - start) / calls

    def check() -> None:
        textbook = SectorCipher.from_passphrase(PASSPHRASE, engine="reference")
        for sector in {0, size // SECTOR_SIZE - 1}:
            place = slice(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE)
            told = getattr(textbook, direction)(source[place], _FIRST_SECTOR + sector)
            if target[place] != told:
                raise BenchError("it gives other bytes than the textbook: not measured")

    work = Work("cipher", engine, direction, "aes", instructions(engine), size)
    return Subject(work, sample, check)


def _absent() -> Iterator[Missing]:
    status = engines.status()
    for engine in status.engines:
        if not engine.available:
            yield Missing(f"cipher: {engine.name}", engine.reason)
    for kernel in status.kernels:
        if not kernel.available:
            yield Missing(f"cipher: native:{kernel.name}", kernel.reason)
