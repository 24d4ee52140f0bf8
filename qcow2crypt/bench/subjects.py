"""What is measured, and by whom: the words for it, and one thing that can be timed.

Knows neither clocks nor programs.  ``Work`` tells everything that a figure is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Section = Literal["cipher", "conversion", "requests", "start"]
Encryption = Literal["aes", "none"]
Instructions = Literal["allowed", "off"]

OURS = "qcow2crypt"
FROM_RAW, TO_RAW = "raw to qcow2", "qcow2 to raw"


class Work(NamedTuple):
    """What one figure is about.

    ``section``       which table it belongs to
    ``who``           an engine with its kernel, or a program
    ``what``          encrypt, decrypt, raw to qcow2, qcow2 to raw, read, write, start
    ``encryption``    of the image; always aes for the cipher
    ``instructions``  AES instructions: allowed, or off because of an engine or a switch
    ``size``          bytes of one piece of work: a call, a disk, a request
    ``cluster_size``  of the image, 0 where there is none
    """

    section: Section
    who: str
    what: str
    encryption: Encryption
    instructions: Instructions
    size: int
    cluster_size: int = 0


class Subject(NamedTuple):
    """One thing that can be timed.

    ``sample``  does the work and gives the seconds that one piece of ``work.size`` took
    ``check``   looks after the first sample whether the work was done right; raises BenchError
    """

    work: Work
    sample: Callable[[], float]
    check: Callable[[], None] | None = None


class Missing(NamedTuple):
    """Something that was not measured, and why, in words."""

    what: str
    why: str


def named(work: Work) -> str:
    """A work in words, for messages.

    >>> named(Work("requests", "qemu-io", "read", "aes", "off", 4096, 65536))
    'requests: qemu-io, read, aes, 4 KiB, clusters of 64 KiB, AES instructions off'
    """
    words = [work.who, work.what, work.encryption, in_words(work.size)]
    words += [f"clusters of {in_words(work.cluster_size)}"] if work.cluster_size else []
    words += ["AES instructions off"] if work.instructions == "off" else []
    return f"{work.section}: {', '.join(words)}"


def in_words(size: int) -> str:
    """A size in bytes as people say it.

    >>> in_words(512), in_words(65536), in_words(2 << 20), in_words(1000)
    ('512 bytes', '64 KiB', '2 MiB', '1000 bytes')
    """
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
