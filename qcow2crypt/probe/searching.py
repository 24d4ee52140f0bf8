"""Which AES instructions and tables are in what a process has mapped.

The bytes are read from memory: so a file that was deleted, or lies in another mount namespace, is
searched like any other.  One file is searched once, however many processes map it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from qcow2crypt.probe.instructions import Site, find_sites
from qcow2crypt.probe.memory import Mapping, read_memory
from qcow2crypt.probe.tables import Table, find_tables

MOST_SEARCHED = 1 << 28
"""Bytes of one mapping that are searched; what lies behind is not."""


class Found(NamedTuple):
    """What AES there is in one mapping of a file; offsets are those of the file."""

    sites: tuple[Site, ...] = ()
    tables: tuple[Table, ...] = ()


_searched: dict[tuple[Mapping, int], Found] = {}


def search(pid: int, mapping: Mapping) -> Found:
    """AES instructions, if it is executable, and tables in a mapping of a file."""
    if not mapping.inode or "r" not in mapping.access:
        return Found()
    length = mapping.end - mapping.start
    key = mapping._replace(start=0, end=length), _changed(mapping.path)
    if key not in _searched:
        data = read_memory(pid, mapping.start, min(length, MOST_SEARCHED))
        if not data:
            return Found()  # it has just ended
        _searched[key] = Found(
            tuple(
                site._replace(offset=site.offset + mapping.offset)
                for site in (find_sites(data) if mapping.executable else ())
            ),
            tuple(
                table._replace(offset=table.offset + mapping.offset) for table in find_tables(data)
            ),
        )
    return _searched[key]


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except (OSError, ValueError):
        return 0
