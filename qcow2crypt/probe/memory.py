"""The memory of another process: what is mapped where, and its bytes.

Knows /proc, no tracing.  Follows proc(5).  A process may end at any moment; then maps are empty
and reads give nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ENTRY, BASE = 9, 7
"""Keys of the auxiliary vector: entry point of the program, place of the dynamic linker."""


class Mapping(NamedTuple):
    """A part of an address space.  ``path`` is empty where no file is behind it."""

    start: int
    end: int
    access: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def executable(self) -> bool:
        """May code run in it?"""
        return "x" in self.access

    @property
    def of_file(self) -> bool:
        """Is a file behind it, and no part of the kernel?"""
        return self.inode != 0

    def place_of(self, address: int) -> tuple[str, int]:
        """The file, and the offset in it, of a byte at ``address``."""
        return self.path, self.offset + address - self.start


def parse_maps(text: str) -> Iterator[Mapping]:
    """The lines of /proc/PID/maps; one that is none is left out."""
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            continue
        start, _, end = fields[0].partition("-")
        path = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else ""
        try:
            yield Mapping(
                int(start, 16), int(end, 16), fields[1], int(fields[2], 16), fields[3],
                int(fields[4]), path,
            )  # fmt: skip
        except ValueError:
            continue


def maps_of(pid: int) -> tuple[Mapping, ...]:
    """What is mapped in a process; nothing if it has ended."""
    try:
        raw = Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return ()
    return tuple(parse_maps(os.fsdecode(raw)))


def program_of(pid: int) -> str:
    """The path of the program that a process runs; empty if it has ended."""
    try:
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""


def threads_of(pid: int) -> list[int]:
    """The threads of the process that ``pid`` is a thread of."""
    try:
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def process_of(tid: int) -> int:
    """The process of a thread; 0 if it has ended."""
    try:
        text = Path(f"/proc/{tid}/status").read_text("utf-8", "replace")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Tgid:")), "Tgid: 0")
    return int(line.split()[1])


def auxiliary(pid: int) -> dict[int, int]:
    """The auxiliary vector of a 64-bit process."""
    try:
        raw = Path(f"/proc/{pid}/auxv").read_bytes()
    except OSError:
        return {}
    return dict(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Bytes of a process, as many as there are; none where it has ended."""
    try:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(descriptor)


def write_memory(pid: int, changes: dict[int, bytes]) -> None:
    """Write bytes to addresses of a process, read-only ones too.  Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for address, data in changes.items():
            os.pwrite(descriptor, data, address)
    finally:
        os.close(descriptor)
