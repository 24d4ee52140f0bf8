"""Made-up samples for the tests of ``bench``: no clock is asked for any of them."""

from __future__ import annotations

from typing import Any

from qcow2crypt.bench.clock import Taken
from qcow2crypt.bench.document import document
from qcow2crypt.bench.settings import QUICK
from qcow2crypt.bench.subjects import FROM_RAW, TO_RAW, Encryption, Instructions, Missing, Work

DISK = 16 << 20
ROUNDS = 9
SIZES = (512, 4096, 65536, 2 << 20)
JITTER = (1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0)
"""What a quiet machine does to samples, round by round."""


def near(seconds: float, rounds: int = ROUNDS) -> list[float]:
    """Samples of a quiet machine."""
    return [seconds * JITTER[number % len(JITTER)] for number in range(rounds)]


def wild(seconds: float, *, shift: int, rounds: int = ROUNDS) -> list[float]:
    """Samples between a third and three times, another sequence for each ``shift``."""
    swing = (1.0, 3.0, 0.4, 2.0, 0.34, 1.2, 2.6, 0.7, 0.9)
    return [
        seconds * swing[(number * (1 + shift) + shift) % len(swing)] for number in range(rounds)
    ]


def conversion(
    who: str = "qcow2crypt",
    what: str = FROM_RAW,
    encryption: Encryption = "aes",
    instructions: Instructions = "allowed",
    cluster_size: int = 65536,
) -> Work:
    """A conversion of the made-up disk."""
    return Work("conversion", who, what, encryption, instructions, DISK, cluster_size)


def by_size(
    seconds: dict[int, float], rounds: int = ROUNDS, **about: Any
) -> dict[Work, list[float]]:
    """Samples of one kind of conversion for each cluster size."""
    return {
        conversion(cluster_size=size, **about): near(one, rounds) for size, one in seconds.items()
    }


FLAT = dict.fromkeys(SIZES, 0.1)
STEEP = {512: 0.4, 4096: 0.11, 65536: 0.1, 2 << 20: 0.1}


def a_run(rounds: int = ROUNDS) -> Taken:
    """Something of everything that a run has."""
    samples = by_size(STEEP, rounds)
    samples |= by_size(FLAT, rounds, what=TO_RAW)
    samples |= by_size(dict.fromkeys(SIZES, 0.09), rounds, encryption="none")
    samples |= by_size({size: 3 * one for size, one in STEEP.items()}, rounds, who="qemu-img")
    samples |= by_size({65536: 0.7}, rounds, who="qemu-img", instructions="off")
    samples |= by_size({65536: 0.4}, rounds, instructions="off")
    for who in ("qcow2crypt", "qemu-img"):
        samples[Work("start", who, FROM_RAW, "aes", "allowed", 512, 65536)] = near(0.01, rounds)
    for what in ("read", "write"):
        for size in SIZES:
            for who in ("qcow2crypt", "qemu-io"):
                work = Work("requests", who, what, "aes", "allowed", 4096, size)
                samples[work] = near(2e-5, rounds)
    for what in ("encrypt", "decrypt"):
        for size in (512, 65536):
            for engine in ("native:vaes256", "a <b> & c"):
                work = Work("cipher", engine, what, "aes", "allowed", size)
                samples[work] = near(1e-6 + size / 1e10, rounds)
        work = Work("cipher", "openssl", what, "aes", "off", 512)
        samples[work] = near(1e-6, rounds)
    missing = [Missing("cipher: <reference> & co", "too slow")]
    return Taken(rounds, samples, near(0.004, 10 * rounds), missing)


CIRCUMSTANCES: dict[str, Any] = {
    "date": "2026-11-23 07:28 UTC",
    "qcow2crypt": "0.1.0",
    "engine": "a <b> & c",
    "kernel": None,
    "engine-without-aes": "native:<x>&",
    "cpu": "a <processor> & more",
    "processors": 2,
    "features": ["aes"],
    "load-before": 0.1,
    "system": "Linux x86_64 6.1",
    "python": "CPython 3.11.7",
    "file-system": "tmpfs",
    "programs": {"qemu-img": "qemu-img version 7.2"},
}


def a_document(taken: Taken | None = None, load: float | None = 0.1) -> dict[str, Any]:
    """The document of a made-up run."""
    return document(QUICK, CIRCUMSTANCES, taken or a_run(), load, 12.3)
