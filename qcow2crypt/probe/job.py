"""What a tracer shall do, as data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qcow2crypt.probe.record import Place


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and how to look at it.

    ``sites``     True puts a breakpoint on every AES instruction
    ``places``    what to count from the start, at most four
    ``first``     count the last-round instructions that run first, as many as there is room for
    ``after``     put them there only when a file of this path is opened; needs ``system_calls``
    ``registers`` count with the debug registers and not with perf
    ``files``     descriptors for standard input, output and error; those of this process if None
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    sites: bool = True
    places: tuple[Place, ...] = ()
    after: str = ""
    first: bool = False
    registers: bool = False
    system_calls: bool = False
    files: tuple[int, int, int] | None = None
