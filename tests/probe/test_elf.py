"""ELF files: what they say of themselves, and that a hostile one gives our own error."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe.conftest import Build

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe.elf import Elf
from qcow2crypt.probe.memory import parse_maps
from qcow2crypt.probe.symbols import function_name, place_name


def ask_everything(data: bytes) -> None:
    """Every fact that a file can be asked for; raises what is not our own error."""
    try:
        elf = Elf(data)
    except ProbeError:
        return
    for question in (
        lambda: elf.needed,
        lambda: elf.interpreter,
        lambda: elf.dynamic_address,
        lambda: elf.imports,
        lambda: elf.function_at(elf.entry),
        lambda: elf.address_of(elf.offset_of(elf.entry) or 0),
        lambda: [part.executable for part in elf.segments],
    ):
        try:
            question()
        except ProbeError:
            continue


def small_elf() -> bytes:
    """An ELF file with every structure that is read, in 1 KiB."""
    data = bytearray(1024)
    struct.pack_into("<16sHHIQQQIHHHHHH", data, 0, b"\x7fELF\x02\x01\x01", 3, 62, 1, 0x100, 64, 600,
                     0, 64, 56, 4, 64, 3, 0)  # fmt: skip
    segments = [
        (1, 5, 0, 0, 0, 1024, 1024, 4096),
        (2, 6, 320, 320, 0, 64, 64, 8),
        (3, 4, 400, 400, 0, 20, 20, 1),
        (0x6474E550, 4, 440, 440, 0, 44, 44, 4),
    ]
    for number, fields in enumerate(segments):
        struct.pack_into("<IIQQQQQQ", data, 64 + 56 * number, *fields)
    struct.pack_into("<qQqQqQ", data, 320, 1, 1, 5, 500, 0, 0)
    data[400:420] = b"/lib64/ld-linux.so\0\0"
    struct.pack_into("<4sIIiiii", data, 440, b"\x01\x1b\x03\x3b", 0, 2, -300, 0, -100, 0)
    data[500:520] = b"\0libnettle.so.8\0f\0\0\0"
    struct.pack_into("<IBBHQQ", data, 520 + 24, 16, 2, 0, 1, 0x200, 16)
    struct.pack_into("<IBBHQQ", data, 520 + 48, 1, 2, 0, 0, 0, 0)
    section = struct.Struct("<IIQQQQIIQQ")
    section.pack_into(data, 600 + 64, 0, 11, 0, 0, 520, 72, 2, 0, 8, 24)
    section.pack_into(data, 600 + 128, 0, 3, 0, 0, 500, 20, 0, 0, 1, 0)
    return bytes(data)


SMALL = small_elf()


def test_what_the_small_file_says() -> None:
    elf = Elf(SMALL)
    assert (elf.machine, elf.entry) == ("x86-64", 0x100)
    assert elf.needed == ("libnettle.so.8",)
    assert elf.interpreter == "/lib64/ld-linux.so"
    assert elf.imports == {"libnettle.so.8"}
    assert [elf.function_at(address) for address in (0x1FF, 0x20F, 0x210)] == [
        (440 - 100, 4096, ""),
        (0x200, 16, "f"),
        (440 - 100, 4096, ""),
    ]
    assert elf.function_at(150) == (140, 200, "")


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), max_size=12))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for place, value in changes:
        data[place] = value
    ask_everything(bytes(data))


@given(st.integers(0, 1024))
def test_a_file_that_is_cut_short(length: int) -> None:
    ask_everything(SMALL[:length])


@given(st.integers(0, 127).map(lambda n: 8 * n), st.integers(0, 2**64 - 1))
def test_huge_numbers(place: int, value: int) -> None:
    data = bytearray(SMALL)
    struct.pack_into("<Q", data, place, value)
    ask_everything(bytes(data))


@given(st.binary(max_size=400))
def test_noise(data: bytes) -> None:
    ask_everything(data)
    ask_everything(b"\x7fELF\x02\x01" + data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no ELF program"),
        (b"#!/bin/sh\n", "no ELF program"),
        (b"\x7fELF\x01\x01" + bytes(100), "32-bit"),
        (b"\x7fELF\x02\x02" + bytes(100), "big-endian"),
        (b"\x7fELF\x02\x01" + bytes(10), "outside the file"),
    ],
)
def test_what_is_no_program_of_ours(data: bytes, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        Elf(data)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="cannot be read"):
        Elf.read(tmp_path / "none")
    assert function_name(str(tmp_path / "none"), 5) == ""
    assert place_name(str(tmp_path / "none"), 5) == "none 0x5 in the file"


def test_functions_are_those_of_nm(tool: Callable[[str], str], build: Build) -> None:
    tool("objdump")
    made = build("no-pie")
    elf = Elf.read(made)
    said = subprocess.run(
        [shutil.which("nm") or "", str(made)], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split() for line in said.splitlines()]
    functions = {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in "Tt"}
    for name in ("main", "by_instructions", "by_table", "thread"):
        found = elf.function_at(functions[name] + 1)
        assert found is not None
        assert (found.address, found.name) == (functions[name], name)


def test_a_stripped_program_has_functions_without_names(
    tool: Callable[[str], str], build: Build, tmp_path: Path
) -> None:
    tool("objdump")
    made, bare = build("pie"), tmp_path / "bare"
    subprocess.run([shutil.which("strip") or "", "-o", str(bare), str(made)], check=True)
    elf, stripped = Elf.read(made), Elf.read(bare)
    named = next(
        value for name, value, _, _, section in elf.symbols if name == "by_instructions" and section
    )
    found = stripped.function_at(named + 4)
    assert found is not None
    assert (found.address, found.name) == (named, "")


@given(st.text(max_size=300))
def test_any_text_as_maps(text: str) -> None:
    list(parse_maps(text))


def test_maps() -> None:
    text = (
        "7f0-7f8 r-xp 00001000 fd:00 42 /lib/a b.so (deleted)\n"
        "800-900 rw-p 00000000 00:00 0\n"
        "nonsense\n"
    )
    first, second = parse_maps(text)
    assert (first.start, first.offset, first.path) == (0x7F0, 0x1000, "/lib/a b.so")
    assert first.executable
    assert first.place_of(0x7F4) == ("/lib/a b.so", 0x1004)
    assert (second.path, second.inode, second.executable) == ("", 0, False)
