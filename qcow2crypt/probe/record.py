"""What one run of a program showed, as data.

Places are files and offsets in them, not where a run happened to load them: so what two runs
showed can be compared, and a later look at the file tells what stands there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.tables import Table

Offset = tuple[str, int]
"""A byte of a file: its path and offset."""


class Place(NamedTuple):
    """What is counted: an instruction that runs, or 8 bytes of data that are read or written."""

    path: str
    offset: int
    data: bool = False


class Hit(NamedTuple):
    """An AES instruction that ran, at its first time.

    ``found``  the bytes at the instruction pointer
    ``stack``  return addresses on the stack, nearest first; some may be left over from before
    """

    site: Site
    pid: int
    found: bytes
    stack: tuple[Offset, ...]


class Program(NamedTuple):
    """A program that ran: its path, and every file that it had mapped as code."""

    path: str
    files: tuple[str, ...]


@dataclass(slots=True)
class KernelUse:
    """Sockets of the family AF_ALG, by which the kernel does cryptography.

    ``ciphers``  names that were bound with success, such as cbc(aes)
    ``sent``     bytes handed over to those of AES
    """

    tried: int = 0
    ciphers: set[str] = field(default_factory=set)
    sent: int = 0


@dataclass(slots=True)
class Trace:
    """What one run showed.

    ``status``    exit code; None if a signal ended it
    ``signal``    that signal, or 0
    ``timed_out`` True where it was ended because it took too long
    ``opened``    True where the file was opened that breakpoints waited for
    ``companion`` what went wrong with what worked beside it, such as a client
    ``sites``     the AES instructions of each file that was mapped as code, by their offset
    ``doubtful``  those that may be the middle of other instructions; never changed, only counted
    ``tables``    the tables of software AES in mapped files
    ``hits``      instructions that ran
    ``counts``    how often each place was reached, of those that were counted
    ``partly``    places that ran in a process where they were not counted as well
    ``users``     for data: which instructions touched it, how often (debug registers only)
    ``left``      processes that were still there when the program had ended
    ``limits``    what could not be seen, in plain words
    """

    status: int | None = None
    signal: int = 0
    timed_out: bool = False
    opened: bool = False
    companion: str = ""
    programs: list[Program] = field(default_factory=list)
    sites: dict[str, dict[int, Site]] = field(default_factory=dict)
    doubtful: dict[Place, Site] = field(default_factory=dict)
    tables: dict[Place, Table] = field(default_factory=dict)
    hits: dict[Place, Hit] = field(default_factory=dict)
    counts: dict[Place, int] = field(default_factory=dict)
    partly: set[Place] = field(default_factory=set)
    users: dict[Place, Counter[Offset]] = field(default_factory=dict)
    kernel: KernelUse = field(default_factory=KernelUse)
    left: int = 0
    limits: list[str] = field(default_factory=list)
