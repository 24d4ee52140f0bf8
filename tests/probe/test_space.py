"""What is mapped in a process changes: everything new is searched, also where other things were."""

from __future__ import annotations

import pytest

from qcow2crypt.probe import memory, space
from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.memory import Mapping
from qcow2crypt.probe.record import Place
from qcow2crypt.probe.searching import Found

AT = 0x7F0000001000
SITE = Site(offset=0x1234, data=b"\x66\x0f\x38\xdd\xc1", name="aesenclast", width=16, sure=True)
LIBRARY = Mapping(AT, AT + 0x3000, "r-xp", 0x1000, "fe:00", 77, "/lib/a.so")
CACHE = Mapping(AT, AT + 0x8000, "r--p", 0, "fe:00", 12, "/etc/ld.so.cache")


class Process:
    """A process that maps what a test says; ``written`` are the bytes changed in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.maps: tuple[Mapping, ...] = ()
        self.written: list[int] = []
        monkeypatch.setattr(memory, "program_of", lambda pid: "/bin/x")
        monkeypatch.setattr(memory, "maps_of", lambda pid: self.maps)
        monkeypatch.setattr(
            memory, "write_memory", lambda pid, bytes_at: self.written.extend(bytes_at)
        )
        monkeypatch.setattr(space, "search", lambda pid, mapping: Found())
        self.space = space.Space(0)

    def look(self, *maps: Mapping) -> list[Mapping]:
        """What is searched when this is mapped; breakpoints are set in code."""
        self.maps = maps
        found = [mapping for mapping, _ in self.space.look(0)]
        for each in found:
            if each.executable:
                self.space.arm(0, each, (SITE,))
        return found


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def test_what_was_searched_is_not_searched_again(process: Process) -> None:
    assert process.look(CACHE) == [CACHE]
    assert process.look(CACHE) == []


def test_a_library_where_another_file_was(process: Process) -> None:
    """The linker's cache is still mapped when it tells of a library; the next comes there."""
    process.look(CACHE)
    assert process.look(LIBRARY) == [LIBRARY]
    assert process.written == [AT + 0x234]


@pytest.mark.parametrize("other", [LIBRARY, LIBRARY._replace(inode=78, path="/lib/b.so")])
def test_a_library_that_came_after_one_was_unmapped(process: Process, other: Mapping) -> None:
    process.look(LIBRARY)
    process.look()
    assert process.space.armed == {}
    assert process.look(other) == [other]
    assert process.space.armed == {AT + 0x234: (Place(other.path, SITE.offset), SITE)}
    assert process.written == [AT + 0x234] * 2


@pytest.mark.parametrize(
    "changed",
    [
        LIBRARY._replace(end=AT + 0x2000),
        LIBRARY._replace(access="rwxp"),
        LIBRARY._replace(path="/lib/renamed.so"),
    ],
)
def test_a_mapping_that_changes_keeps_its_breakpoints(process: Process, changed: Mapping) -> None:
    process.look(LIBRARY)
    assert process.look(changed) == []
    assert list(process.space.armed) == [AT + 0x234]
