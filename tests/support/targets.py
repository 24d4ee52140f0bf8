"""What the tests of target files share: a target that was there before, and what may be left."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from qcow2crypt.targetfile import PART_SUFFIX, TargetFile

OLD, NEW = b"what was there before", b"what is new"


def leftovers(folder: Path) -> list[str]:
    """The temporary files in ``folder``."""
    return [path.name for path in folder.iterdir() if path.name.endswith(PART_SUFFIX)]


def mode_of(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    """Another umask for a while."""
    old = os.umask(value)
    try:
        yield
    finally:
        os.umask(old)


def write_new(path: str | os.PathLike[str]) -> None:
    """Put a file with ``NEW`` at ``path``."""
    with TargetFile(path) as file:
        file.pwrite(NEW, 0)
        file.commit()
