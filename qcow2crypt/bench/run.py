"""One run from start to end: files, subjects, rounds, document.

The only module that puts the others together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qcow2crypt import engines
from qcow2crypt.bench import cipher, circumstances, ours, peers
from qcow2crypt.bench.clock import Tell, take_rounds
from qcow2crypt.bench.disks import Disks
from qcow2crypt.bench.document import document
from qcow2crypt.bench.settings import Settings, fitted, room_needed
from qcow2crypt.bench.subjects import Instructions, Missing, Subject
from qcow2crypt.bench.workfolder import work_folder

_BOTH: tuple[Instructions, ...] = ("allowed", "off")


def measure(settings: Settings, tell: Tell, directory: Path | None = None) -> dict[str, Any]:
    """Measure everything and give the document, see ``document.document``.

    ``directory`` is where the folder for the files is made.  Raises BenchError where there is no
    room, and what the library raises where no engine works.
    """
    begin = time.perf_counter()
    load = circumstances.load()
    tell(0, settings.rounds, 0.0)
    settings = fitted(settings, cipher.speed())
    with work_folder(room_needed(settings), directory) as folder:
        disks = Disks(folder, settings)
        disks.make()
        programs, missing = peers.installed()
        subjects, absent = _subjects(disks, settings, list(programs))
        taken = take_rounds(
            subjects,
            rounds=settings.rounds,
            seconds=settings.seconds - (time.perf_counter() - begin),
            patience=settings.patience,
            tell=tell,
        )
        where = circumstances.circumstances(folder, programs, load)
    taken.missing[:0] = [*missing, *absent]
    return document(settings, where, taken, load, time.perf_counter() - begin)


class _Way(NamedTuple):
    """One way in which this package takes part; ``twin``: again, without AES instructions."""

    engine: str | None
    instructions: Instructions
    twin: bool


def _subjects(
    disks: Disks, settings: Settings, programs: Sequence[str]
) -> tuple[list[Subject], list[Missing]]:
    """All that is measured, and what is not.

    Conversions come first: the writes of random requests change the images, and the warm-up, which
    goes in this order, compares what conversions made with the disk.
    """
    ways, missing = _ways()
    found, absent = cipher.subjects(settings)
    if "openssl" in programs and settings.openssl:
        found += peers.ciphers(disks.folder)
    elif "openssl" in programs:
        why = "each sample takes a second: asked with --full only"
        absent.append(Missing("cipher: openssl", why))
    found += ours.start(disks, ways[0].instructions)
    for way in ways:
        found += ours.conversions(disks, settings, *way)
    if "qemu-img" in programs:
        found += peers.start(disks)
        for instructions in _BOTH:
            found += peers.conversions(disks, settings, instructions)
    for way in ways:
        found += ours.requests(disks, settings, *way)
    if "qemu-io" in programs:
        for instructions in _BOTH:
            found += peers.requests(disks, settings, instructions)
    return found, missing + absent


def _ways() -> tuple[list[_Way], list[Missing]]:
    used, slow = cipher.instructions(engines.get().name), cipher.without_instructions()
    ways = [_Way(None, used, twin=False)]
    if slow is None:
        why = "the C kernels are not compiled in: see 'qcow2crypt engines'"
        return ways, [Missing("qcow2crypt without AES instructions", why)]
    return ways + ([_Way(slow, "off", twin=True)] if used == "allowed" else []), []
