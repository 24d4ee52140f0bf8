"""A folder for the files of a run: where there is room, and gone at the end.

Memory (/dev/shm) is taken before the folder for temporary files, since a disk would be measured
with the rest.  Knows nothing of what lies in the folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qcow2crypt.errors import BenchError
from qcow2crypt.tempfolder import temporary_folder

MEMORY = Path("/dev/shm")  # noqa: S108 - not a guessable file: a folder is made in it
_PREFIX = "qcow2crypt-bench-"
_IN_MEMORY = frozenset(("tmpfs", "ramfs"))


@contextmanager
def work_folder(needed: int, wanted: Path | None = None) -> Iterator[Path]:
    """An empty folder with room for ``needed`` bytes, removed with all that is in it.

    ``wanted`` is the folder to make it in; None takes the first that has the room.  Raises
    BenchError where there is none.
    """
    parent = wanted or first_with_room(needed, (MEMORY, Path(tempfile.gettempdir())))
    if wanted is not None:
        refuse_without_room(needed, wanted)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(_PREFIX, parent))
        except OSError as error:
            raise BenchError(f"no folder can be made in {parent}: {error.strerror}") from error
        yield folder


def first_with_room(needed: int, places: tuple[Path, ...]) -> Path:
    """The first of the folders that has room.  Raises BenchError, which names what each has."""
    for place in places:
        if os.access(place, os.W_OK) and free_room(place) >= needed:
            return place
    rows = ", ".join(f"{place} has {_mib(free_room(place))}" for place in places if place.is_dir())
    raise BenchError(
        f"the files of this run need {_mib(needed)} and there is no room for them: {rows}; name "
        "another folder with --directory, or measure less with --quick"
    )


def refuse_without_room(needed: int, place: Path) -> None:
    """Raise BenchError where there is no such folder, or too little room in it."""
    if not place.is_dir():
        raise BenchError(f"--directory {place}: there is no such folder")
    if (room := free_room(place)) < needed:
        raise BenchError(
            f"--directory {place} has {_mib(room)} free and the files of this run need "
            f"{_mib(needed)}; name another folder, or measure less with --quick"
        )


def free_room(place: Path) -> int:
    """Bytes that may be written there; in a file system in memory half of the memory at most."""
    if not hasattr(os, "statvfs"):  # Windows
        import shutil

        return shutil.disk_usage(place).free
    try:
        found = os.statvfs(place)
    except OSError:
        return 0
    free = found.f_bavail * found.f_frsize
    if file_system(place) in _IN_MEMORY and (memory := _free_memory()) is not None:
        free = min(free, memory // 2)
    return free


def file_system(place: Path, mounts: str | None = None) -> str:
    r"""The kind of file system that a folder is on, "unknown" where Linux does not tell.

    >>> file_system(Path("/a/b"), "x / ext4 rw 0 0\ny /a tmpfs rw 0 0")
    'tmpfs'
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "unknown"
    best, found = "", "unknown"
    for line in mounts.splitlines():
        _, mount, kind, *_ = line.split()
        if place.is_relative_to(mount) and len(mount) >= len(best):
            best, found = mount, kind
    return found


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    rows: Mapping[str, str] = {line.partition(":")[0]: line.partition(":")[2] for line in lines}
    return int(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
