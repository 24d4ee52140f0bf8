"""The AES instructions that are found are those of objdump and capstone: none missed, none false.

Over libraries of this machine that have many, few and none, and over made-up code.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.probe.elf import Elf
from qcow2crypt.probe.instructions import Site, find_sites

FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/bin")
NAMES = (
    "libnettle.so.*",
    "libgcrypt.so.*",
    "libgnutls.so.*",
    "libcrypto.so.*",
    "libc.so.6",
    "libstdc++.so.6",
    "libonig.so.*",
    "libexpat.so.1",
    "libzstd.so.1",
    "qemu-img",
)
AES = re.compile(r"\s*([0-9a-f]+):\s+(v?aes\w+)")


def files() -> list[Path]:
    """Those of the files that are here, each once."""
    found: dict[Path, None] = {}
    for name in NAMES:
        for folder in FOLDERS:
            found |= dict.fromkeys(path.resolve() for path in Path(folder).glob(name))
    return list(found)


FILES = files()
each_file = pytest.mark.parametrize("path", FILES or [None], ids=lambda p: p.name if p else "none")


def found_in(path: Path) -> dict[int, Site]:
    """Our sites, by the address in the file."""
    elf = Elf.read(path)
    return {
        part.address + site.offset: site
        for part in elf.segments
        if part.executable
        for site in find_sites(elf.data[part.offset : part.offset + part.size])
    }


@each_file
def test_objdump_sees_the_same(tool: Callable[[str], str], path: Path | None) -> None:
    if path is None:
        pytest.skip("no library was compared with objdump: none of them is here")
    command = [tool("objdump"), "-d", "--no-show-raw-insn", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = {int(row[1], 16): row[2] for row in map(AES.match, done.stdout.splitlines()) if row}
    ours = found_in(path)
    assert theirs.keys() - ours.keys() == set(), "missed"
    assert {a for a, site in ours.items() if site.sure} - theirs.keys() == set(), "false"
    assert {a: ours[a].mnemonic for a in theirs} == theirs
    if "libnettle" in path.name:
        assert len(theirs) > 100


@each_file
def test_capstone_sees_the_same_at_each_place(path: Path | None) -> None:
    """At every sure site stands this instruction, whole, with that width."""
    if path is None or importlib.util.find_spec("capstone") is None:
        pytest.skip("nothing was compared with capstone: it is not installed")
    capstone = pytest.importorskip("capstone")
    machine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    elf = Elf.read(path)
    for address, site in found_in(path).items():
        offset = elf.offset_of(address)
        assert offset is not None
        if not site.sure:
            continue
        _, _, name, operands = next(machine.disasm_lite(elf.data[offset : offset + 16], address, 1))
        assert name == site.mnemonic
        assert {16: "xmm", 32: "ymm", 64: "zmm"}[site.width] in operands


# One of each kind: as an assembler writes it, its name and width.
ENCODED = [
    ("66 0f 38 dc c1", "aesenc", 16),
    ("66 45 0f 38 dd da", "aesenclast", 16),
    ("66 0f 38 de 07", "aesdec", 16),
    ("66 44 0f 38 df f8", "aesdeclast", 16),
    ("66 0f 38 db c1", "aesimc", 16),
    ("66 0f 3a df c1 01", "aeskeygenassist", 16),
    ("c4 e2 71 dc c2", "vaesenc", 16),
    ("c4 e2 75 dd c2", "vaesenclast", 32),
    ("c4 42 3d de c1", "vaesdec", 32),
    ("c4 e2 79 db c1", "vaesimc", 16),
    ("c4 e3 79 df c1 01", "vaeskeygenassist", 16),
    ("62 f2 75 48 dc c2", "vaesenc", 64),
    ("62 a2 75 20 dd c2", "vaesenclast", 32),
    ("62 f2 f5 48 df c2", "vaesdeclast", 64),
]


@pytest.mark.parametrize(("code", "name", "width"), ENCODED, ids=[row[0] for row in ENCODED])
def test_each_encoding(code: str, name: str, width: int) -> None:
    data = bytes.fromhex(code)
    (site,) = find_sites(b"\x90" * 7 + data + b"\x90" * 7)
    assert (site.offset, site.mnemonic, site.width) == (7, name, width)
    assert data.startswith(site.data)
    assert site.last == name.endswith("last")
    assert site.sure == (not name.startswith("v"))


@pytest.mark.parametrize(
    "code",
    [
        "0f 38 dc c1",  # MMX: there is no AES without 66
        "66 0f 38 da c1",
        "66 0f 3a de c1",
        "c4 e2 70 dc c2",  # no prefix 66 in it
        "c4 e2 71 db c2",  # AESIMC has one source only
        "c4 e1 71 dc c2",  # another map of opcodes
        "62 f2 74 48 dc c2",
        "62 f2 75 4a dc c2",  # a mask register
        "62 f2 75 68 dc c2",  # no such width
        "62 f2 75 48 db c2",
    ],
)
def test_what_is_no_aes_instruction(code: str) -> None:
    assert find_sites(bytes.fromhex(code) + b"\x90" * 8) == ()


def test_company_makes_sure() -> None:
    one, other = bytes.fromhex("c4 e2 71 dc c2"), bytes.fromhex("c4 e2 71 dd c2")
    legacy = bytes.fromhex("66 0f 38 dc c1")
    assert [site.sure for site in find_sites(one + other)] == [True, True]
    assert [site.sure for site in find_sites(one + bytes(2000) + other)] == [False, False]
    assert [site.sure for site in find_sites(one + legacy)] == [True, True]
    assert [site.sure for site in find_sites(one * 4)] == [False] * 4
    assert [site.sure for site in find_sites(one * 5)] == [True] * 5


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """What is found lies in the data, in order, and is found again in any place."""
    sites = find_sites(data)
    assert list(sites) == sorted(sites)
    for site in sites:
        assert data[site.offset : site.offset + len(site.data)] == site.data
    moved = find_sites(b"\x90" * 3 + data)
    assert {(s.offset - 3, s.name, s.width) for s in moved} >= {
        (s.offset, s.name, s.width) for s in sites
    }


def test_the_code_of_python_itself() -> None:
    """A large program without AES: nothing is armed in it."""
    if sys.platform != "linux":
        pytest.skip("the program that runs the tests is no ELF file")
    assert not [site for site in found_in(Path(sys.executable).resolve()).values() if site.sure]
