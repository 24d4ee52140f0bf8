"""What an ELF file says of itself: libraries it needs, functions, where its code lies.

Bytes in, facts out; knows no process.  A file is taken as hostile: every number in it is held
against the length of the file, and ProbeError says what cannot be.  Follows the System V ABI
("Object Files"), its AMD64 supplement, and the LSB document for .eh_frame_hdr.
"""

from __future__ import annotations

import bisect
import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.errors import ProbeError

_MOST = 1 << 29
"""Bytes of a file that are read; programs are smaller."""
_MANY = 1 << 22
"""Entries of one table; no real one has so many."""

_LOAD, _DYNAMIC, _INTERP, _EH_FRAME_HDR = 1, 2, 3, 0x6474E550
_NEEDED, _HASH_STRTAB, _SYMTAB, _STRSZ = 1, 5, 6, 10
_DYNSYM_SECTION, _SYMTAB_SECTION = 11, 2
_FUNCTIONS = frozenset((2, 10))  # STT_FUNC, STT_GNU_IFUNC
MACHINES = {3: "x86", 62: "x86-64", 40: "ARM", 183: "AArch64", 243: "RISC-V", 21: "PowerPC64"}


class Segment(NamedTuple):
    """A program header: where ``size`` bytes at ``offset`` in the file come to lie."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int

    @property
    def executable(self) -> bool:
        """Is there code in it?"""
        return self.kind == _LOAD and bool(self.flags & 1)


class Function(NamedTuple):
    """A function by its name, at an address of the file."""

    address: int
    size: int
    name: str


class Elf:
    """One file.  Raises ProbeError where it is no 64-bit little-endian ELF file, or damaged."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if data[:4] != b"\x7fELF":
            raise ProbeError("it is no ELF program")
        if data[4:6] != b"\x02\x01":
            kind = "32-bit" if data[4:5] == b"\x01" else "big-endian"
            raise ProbeError(f"it is a {kind} program; only 64-bit x86-64 can be looked into")
        self.machine = MACHINES.get(self._numbers("<H", 18)[0], "another processor")
        self.entry, table = self._numbers("<QQ", 24)
        size, count = self._numbers("<HH", 54)
        self.segments = tuple(self._segments(table, size, count))

    @classmethod
    def read(cls, path: str | Path) -> Elf:
        """Read the file.  Raises ProbeError where that cannot be."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MOST + 1)
        except (OSError, ValueError) as error:
            raise ProbeError(f"'{path}' cannot be read: {error}") from error
        if len(data) > _MOST:
            raise ProbeError(f"'{path}' is larger than {_MOST} bytes")
        return cls(data)

    def _numbers(self, form: str, offset: int) -> tuple[int, ...]:
        length = struct.calcsize(form)
        if not 0 <= offset <= len(self.data) - length:
            raise ProbeError(f"its ELF structures point outside the file, to {offset:#x}")
        return struct.unpack_from(form, self.data, offset)

    def _segments(self, table: int, size: int, count: int) -> Iterator[Segment]:
        if count and size < 56:
            raise ProbeError(f"its program headers have {size} bytes; 56 are needed")
        for number in range(count):
            kind, flags, offset, address, _, length, _, _ = self._numbers(
                "<IIQQQQQQ", table + number * size
            )
            yield Segment(kind, flags, offset, address, length)

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte lies that is loaded at ``address``; None if nowhere."""
        for each in self.segments:
            if each.kind == _LOAD and 0 <= address - each.address < each.size:
                return each.offset + address - each.address
        return None

    def address_of(self, offset: int) -> int | None:
        """The other way round."""
        for each in self.segments:
            if each.kind == _LOAD and 0 <= offset - each.offset < each.size:
                return each.address + offset - each.offset
        return None

    def segment(self, kind: int) -> Segment | None:
        """The first segment of a kind."""
        return next((each for each in self.segments if each.kind == kind), None)

    @functools.cached_property
    def dynamic(self) -> tuple[tuple[int, int], ...]:
        """The dynamic section: tags and values, to its end mark."""
        part = self.segment(_DYNAMIC)
        rows = []
        for number in range(min(part.size // 16, _MANY) if part else 0):
            tag, value = self._numbers("<qQ", part.offset + 16 * number) if part else (0, 0)
            if tag == 0:
                break
            rows.append((tag, value))
        return tuple(rows)

    @property
    def dynamic_address(self) -> int | None:
        """Where the dynamic section comes to lie; None for a program without dynamic linking."""
        part = self.segment(_DYNAMIC)
        return part.address if part else None

    @functools.cached_property
    def needed(self) -> tuple[str, ...]:
        """The names of the libraries that the file asks for."""
        names = [value for tag, value in self.dynamic if tag == _NEEDED]
        table = next((value for tag, value in self.dynamic if tag == _HASH_STRTAB), None)
        start = self.offset_of(table) if table is not None else None
        if start is None:
            return ()
        return tuple(self._text(start + name) for name in names)

    @functools.cached_property
    def interpreter(self) -> str:
        """The dynamic linker that loads the program; empty for a static one."""
        part = self.segment(_INTERP)
        return self._text(part.offset) if part else ""

    def _text(self, offset: int) -> str:
        end = self.data.find(b"\0", offset, offset + 4096) if offset < len(self.data) else -1
        return self.data[offset:end].decode("utf-8", "replace") if end >= 0 else ""

    @functools.cached_property
    def symbols(self) -> tuple[tuple[str, int, int, int, int], ...]:
        """Name, address, size, type and section of every symbol, dynamic ones and others."""
        (table,) = self._numbers("<Q", 40)
        size, count = self._numbers("<HH", 58)
        if not table or size < 64:
            return ()
        sections = [self._numbers("<IIQQQQIIQQ", table + number * size) for number in range(count)]
        rows = []
        for _, kind, _, _, offset, length, link, _, _, entry in sections:
            if kind in {_DYNSYM_SECTION, _SYMTAB_SECTION} and entry == 24 and link < count:
                texts = sections[link][4]
                for number in range(min(length // 24, _MANY)):
                    name, info, _, section, value, extent = self._numbers(
                        "<IBBHQQ", offset + 24 * number
                    )
                    rows.append((texts + name, value, extent, info & 15, section))
        return tuple((self._text(name), *rest) for name, *rest in rows)  # type: ignore[misc]

    def value_of(self, name: str) -> int | None:
        """The address of what the file defines under this name."""
        return next(
            (at for own, at, _, _, section in self.symbols if section and own == name), None
        )

    @functools.cached_property
    def imports(self) -> frozenset[str]:
        """The names that the file takes from libraries."""
        return frozenset(name for name, _, _, _, section in self.symbols if name and not section)

    @functools.cached_property
    def _functions(self) -> tuple[Function, ...]:
        return tuple(
            sorted(
                Function(value, size, name)
                for name, value, size, kind, section in self.symbols
                if section and name and kind in _FUNCTIONS
            )
        )

    def function_at(self, address: int) -> Function | None:
        """The function that ``address`` is in: by its name, or by its unwind entry.

        A function of assembly code may have no size: it goes to the next one, then.
        """
        functions = self._functions
        place = bisect.bisect_right(functions, address, key=lambda f: f.address) - 1
        if place >= 0:
            found = functions[place]
            if address < found.address + found.size or not found.size:
                return found
        starts = self._unwind_starts
        place = bisect.bisect_right(starts, address) - 1
        if place >= 0:
            end = starts[place + 1] if place + 1 < len(starts) else starts[place] + 4096
            return Function(starts[place], end - starts[place], "")
        return None

    @functools.cached_property
    def _unwind_starts(self) -> tuple[int, ...]:
        """Where functions begin, from the sorted table of .eh_frame_hdr that gcc and clang make."""
        part = self.segment(_EH_FRAME_HDR)
        if part is None or self.data[part.offset : part.offset + 4] != b"\x01\x1b\x03\x3b":
            return ()
        (count,) = self._numbers("<I", part.offset + 8)
        count = min(count, part.size // 8, _MANY)
        raw = self._numbers(f"<{2 * count}i", part.offset + 12)
        return tuple(sorted(part.address + start for start in raw[::2]))
