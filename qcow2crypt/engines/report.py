"""How it stands with the engines, as data: what ``engines.status()`` gives.

Knows no engine and asks nobody; the package and ``native`` fill it in.
"""

from __future__ import annotations

from typing import NamedTuple


class EngineStatus(NamedTuple):
    """How it stands with one engine.  ``reason`` tells why not, "" where ``available``."""

    name: str
    available: bool
    reason: str
    summary: str


class KernelStatus(NamedTuple):
    """How it stands with one C kernel, as ``EngineStatus``.

    ``needs`` and ``lacks`` name features of the processor.  One that lacks nothing and is not
    available has failed its self-test.
    """

    name: str
    available: bool
    reason: str
    needs: tuple[str, ...]
    lacks: tuple[str, ...]


class Feature(NamedTuple):
    """Something that a kernel needs of the processor; ``present`` if programs can use it here."""

    name: str
    present: bool


class Status(NamedTuple):
    """What ``engines.status()`` gives.

    ``used``      the engine that is taken when no name is given, "" if there is none
    ``kernel``    the C kernel that does its work, "" for an engine without kernels
    ``why``       who chose it, or why nothing could be chosen, in words
    ``engines``   all engines, in order of preference
    ``kernels``   the C kernels of this build, best first; none where C was not compiled in
    ``features``  what these kernels ask of a processor
    """

    used: str
    kernel: str
    why: str
    engines: tuple[EngineStatus, ...]
    kernels: tuple[KernelStatus, ...]
    features: tuple[Feature, ...]
