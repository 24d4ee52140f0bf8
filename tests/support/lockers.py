"""Who holds an image: the kinds of our own opens, and which QEMU's rules let be side by side."""

from __future__ import annotations

import itertools
from pathlib import Path

from qcow2crypt.image.hostfile import HostFile

READER, FORCED, WRITER = "reader", "forced reader", "writer"
# As QEMU has it: readers beside readers, and a forced one beside everybody.
ALLOWED = {
    (READER, READER),
    *itertools.product([FORCED], [READER, FORCED, WRITER]),
    *itertools.product([READER, FORCED, WRITER], [FORCED]),
}
PAIRS = list(itertools.product([READER, FORCED, WRITER], repeat=2))


def opened(path: Path, kind: str) -> HostFile:
    """The file, open and locked.  Raises ImageLockedError; then nothing stays open."""
    file = HostFile(path, writable=kind == WRITER)
    try:
        file.lock(writing=kind == WRITER, force_share=kind == FORCED)
    except BaseException:
        file.close()
        raise
    return file
