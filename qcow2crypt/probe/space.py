"""One address space of a traced process: what was found in it, changed in it, watched in it.

Knows memory and the dynamic linker, no waiting.  A breakpoint is the byte CC over the first byte
of an instruction.  It is taken away at its first hit, in the memory of whoever hit it, so no
instruction has ever to be stepped over, and threads that race for it do no harm.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe import memory, ptrace
from qcow2crypt.probe.elf import Elf
from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.memory import Mapping, read_memory
from qcow2crypt.probe.record import Place
from qcow2crypt.probe.searching import Found, search

BREAKPOINT = b"\xcc"
_RETURNS = (b"\xc3", b"\xf3\x0f\x1e\xfa\xc3", b"\xf3\xc3")
"""The function that the dynamic linker calls when libraries came: it only returns."""
_DEBUG_TAG = 21
_DEBUG_NAMES = "_r_debug", "_dl_debug_state"
"""What the dynamic linker itself calls its list of libraries and that function."""
_INDIRECT = (
    *((2, 0xD0, 0xD8), (2, 0x10, 0x18), (3, 0x50, 0x58), (4, 0x54, 0x55)),
    *((6, 0x15, 0x16), (6, 0x90, 0x98), (7, 0x94, 0x95)),
)
"""Calls through a register or memory: length, and the range of the byte behind FF."""


class Space:
    """An address space from the exec that made it.  A fork gets a copy."""

    def __init__(self, pid: int) -> None:
        self.path = memory.program_of(pid)
        self.entry = 0
        self.linker_stop = 0
        self.armed: dict[int, tuple[Place, Site]] = {}
        self.watched: list[tuple[int, Place]] = []
        self.maps: tuple[Mapping, ...] = ()
        self.limit = ""
        self._debug_at = 0
        self._in_linker = False
        self._first_byte = b""
        self._searched: dict[Mapping, Mapping] = {}
        self._stop_at_entry(pid)

    def copy(self) -> Space:
        """For the child of a fork."""
        twin = Space.__new__(Space)
        twin.__dict__.update(self.__dict__)
        twin.armed = dict(self.armed)
        twin.watched = list(self.watched)
        twin._searched = dict(self._searched)  # noqa: SLF001 - of this class
        return twin

    def _stop_at_entry(self, pid: int) -> None:
        """There all libraries are mapped that the program needs, and nothing of it has run."""
        try:
            self._elf = Elf.read(f"/proc/{pid}/exe")
            if self._elf.machine != "x86-64":
                raise ProbeError(f"it is a program for {self._elf.machine}")
        except ProbeError as error:
            self.limit = str(error)
            return
        self.entry = memory.auxiliary(pid).get(memory.ENTRY, 0)
        self._first_byte = read_memory(pid, self.entry, 1)
        try:
            _write(pid, {self.entry: BREAKPOINT})
        except OSError as error:
            self.limit = f"its memory cannot be written ({error.strerror})"
            self.entry = 0

    def at_entry(self, tid: int) -> None:
        """The program is at its first instruction: put that back, and wait for more libraries."""
        _write(tid, {self.entry: self._first_byte})
        bias = self.entry - self._elf.entry
        self._debug_at, stop = self._told_by_program(tid, bias) or self._told_by_linker(bias)
        if not stop:
            return
        code = read_memory(tid, stop, 5)
        if not code.startswith(_RETURNS):
            self.limit = "libraries that it loads later are not seen: its dynamic linker is unknown"
            return
        self.linker_stop = stop
        _write(tid, {stop: BREAKPOINT})

    def _told_by_program(self, tid: int, bias: int) -> tuple[int, int] | None:
        """Where the linker's list of libraries is, and its function: as it noted in the program."""
        dynamic = self._elf.dynamic_address
        if dynamic is None:
            return None
        table = read_memory(tid, dynamic + bias, 16 * 128)
        pairs = dict(struct.iter_unpack("<QQ", table[: len(table) // 16 * 16]))
        debug_at = pairs.get(_DEBUG_TAG, 0)
        debug = read_memory(tid, debug_at, 40)
        if len(debug) < 40 or not debug_at:
            return None
        return debug_at, struct.unpack_from("<Q", debug, 16)[0]

    def _told_by_linker(self, bias: int) -> tuple[int, int]:
        """The same where the linker was started itself, with a program to load."""
        if self._elf.interpreter:
            return 0, 0
        at, stop = (self._elf.value_of(name) for name in _DEBUG_NAMES)
        if not at or not stop:
            return 0, 0
        self._in_linker = True
        return at + bias, stop + bias

    def libraries_came(self, tid: int) -> bool:
        """Is what the dynamic linker has to tell that its list is complete again?"""
        return read_memory(tid, self._debug_at + 24, 4) == b"\0\0\0\0"

    def look(self, tid: int) -> Iterator[tuple[Mapping, Found]]:
        """What is mapped and was not searched before."""
        self.maps = memory.maps_of(tid)
        if self._in_linker:
            self._name_program(tid)
        here = {_lasting(each): each for each in self.maps if each.inode}
        self._forget([each for key, each in self._searched.items() if key not in here])
        for key, each in here.items():
            if key not in self._searched:
                self._searched[key] = each
                yield each, search(tid, each)

    def _forget(self, gone: list[Mapping]) -> None:
        """What was unmapped, with the breakpoints in it.

        Something else may come to its place, and does: the linker's cache of paths lies for a
        moment where a library comes next.
        """
        for each in gone:
            del self._searched[_lasting(each)]
        code = [each for each in gone if each.executable]
        if code:
            self.armed = {
                address: found
                for address, found in self.armed.items()
                if not any(each.start <= address < each.end for each in code)
            }

    def _name_program(self, tid: int) -> None:
        """What the linker loads is the program, and not the linker: the first in its list."""
        first = struct.unpack("<Q", read_memory(tid, self._debug_at + 8, 8).ljust(8, b"\0"))[0]
        section = struct.unpack("<Q", read_memory(tid, first + 16, 8).ljust(8, b"\0"))[0]
        for each in self.maps:
            if each.inode and each.start <= section < each.end:
                self.path = each.path

    def look_again(self) -> None:
        """Let the next look give all mappings once more."""
        self._searched.clear()

    def arm(self, tid: int, mapping: Mapping, sites: tuple[Site, ...]) -> None:
        """Put breakpoints on sites of a mapping, where memory holds what the search found."""
        changes = {}
        for site in sites:
            address = mapping.start + site.offset - mapping.offset
            if address not in self.armed:
                self.armed[address] = Place(mapping.path, site.offset), site
                changes[address] = BREAKPOINT
        _write(tid, changes)

    def disarm(self, tid: int, address: int) -> None:
        """Put the instruction back, in the memory that ``tid`` sees."""
        site = self.armed[address][1]
        _write(tid, {address: site.data[:1]})

    def place_of(self, address: int) -> tuple[str, int] | None:
        """The file and offset of a byte of code; None where no file is behind it."""
        found = self.mapping_of(address)
        return found.place_of(address) if found and found.inode else None

    def mapping_of(self, address: int) -> Mapping | None:
        """The mapping of code that holds ``address``."""
        return next((m for m in self.maps if m.executable and m.start <= address < m.end), None)

    def code_files(self) -> tuple[str, ...]:
        """Every file that is mapped as code."""
        return tuple(dict.fromkeys(m.path for m in self.maps if m.executable and m.inode))

    def callers(self, tid: int, stack_pointer: int, most: int = 12) -> tuple[tuple[str, int], ...]:
        """Return addresses on the stack: numbers that point behind a call instruction."""
        stack = read_memory(tid, stack_pointer, 4096)
        code = [(m.start, m.end) for m in self.maps if m.executable and m.inode]
        found = []
        for (value,) in struct.iter_unpack("<Q", stack[: len(stack) // 8 * 8]):
            if not any(start <= value < end for start, end in code):
                continue
            place = self.place_of(value)
            if place is not None and _behind_call(read_memory(tid, value - 7, 7)):
                found.append(place)
                if len(found) == most:
                    break
        return tuple(found)


def _lasting(mapping: Mapping) -> Mapping:
    """A mapping without what can change while it lasts: its end, its rights, the file's name."""
    return mapping._replace(end=0, access="", path="")


def _write(tid: int, changes: dict[int, bytes]) -> None:
    """Change single bytes of code.  Some kernels let only ptrace do that, word by word."""
    try:
        memory.write_memory(tid, changes)
    except OSError:
        for address, byte in changes.items():
            ptrace.write_byte(tid, address, byte)


def _behind_call(code: bytes) -> bool:
    """Do the bytes before an address end in a call?  E8 with an offset, or FF with any operand."""
    if len(code) < 7:
        return False
    return code[2] == 0xE8 or any(
        code[-length] == 0xFF and low <= code[1 - length] < high for length, low, high in _INDIRECT
    )
