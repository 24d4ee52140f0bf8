"""Which cryptographic libraries a program asks for, has, and really uses.

That a program is linked to a library proves nothing: qemu-img needs libgnutls for TLS and libnettle
for disks.  So there are steps: needed, cipher functions imported, mapped, run, run for the payload.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import NamedTuple

from qcow2crypt.errors import ProbeError
from qcow2crypt.probe.evidence import Evidence
from qcow2crypt.probe.symbols import elf_of

_KNOWN = re.compile(
    r"lib(nettle|gcrypt|gnutls|crypto|mbedcrypto|wolfssl|botan|sodium|nss3|softokn3|freebl|tomcrypt)"
    r"\b.*\.so"
)
_CIPHERS = re.compile(
    r"_?nettle_(aes|cbc|xts)\w*|gcry_cipher_\w+|gnutls_cipher_\w+|EVP_(En|De)crypt\w*|AES_\w+"
)


class Library(NamedTuple):
    """One file with AES in it, or a cryptographic library.

    ``needed``     the program itself names it
    ``sites``      AES instructions in it
    ``executed``   of those, how many ran
    ``per_block``  blocks that it finished with them for each block of payload, at most
    ``tables``     table reads for each block of payload, at most
    """

    path: str
    needed: bool
    sites: int
    executed: int
    per_block: float
    tables: float


def ciphers_imported(program: str) -> tuple[str, ...]:
    """Functions for ciphers that a program takes from any library."""
    elf = elf_of(program)
    try:
        names = elf.imports if elf else ()
    except ProbeError:
        return ()
    return tuple(sorted(name for name in names if _CIPHERS.fullmatch(name)))


def libraries(evidences: list[Evidence]) -> tuple[Library, ...]:
    """All that was mapped as code in any of the runs and has to do with AES."""
    mapped: dict[str, bool] = {}
    for program in (program for evidence in evidences for program in evidence.programs):
        elf = elf_of(program.path)
        try:
            needed = elf.needed if elf else ()
        except ProbeError:
            needed = ()
        for path in program.files:
            # The library is asked for by its soname, which is a link to the file or its start.
            asked = path != program.path and any(_is(path, name) for name in needed)
            mapped[path] = mapped.get(path, False) or asked
    rows = [_library(path, needed, evidences) for path, needed in mapped.items()]
    return tuple(
        sorted(
            (
                row
                for row in rows
                if row.sites or row.tables or _KNOWN.match(PurePath(row.path).name)
            ),
            key=lambda row: (-row.per_block, -row.tables, -row.sites, row.path),
        )
    )


def _is(path: str, soname: str) -> bool:
    name = PurePath(path).name
    return name == soname or name.startswith((f"{soname}.", soname.partition(".so")[0] + "-"))


def _library(path: str, needed: bool, evidences: list[Evidence]) -> Library:
    return Library(
        path,
        needed,
        max((each.found.get(path, 0) for each in evidences), default=0),
        len({place for each in evidences for place in each.hits if place.path == path}),
        max((_per_block(each, path) for each in evidences), default=0.0),
        max(
            (
                each.per_block(table)
                for each in evidences
                for table in each.tables
                if table.place.path == path
            ),
            default=0.0,
        ),
    )


def _per_block(evidence: Evidence, path: str) -> float:
    return sum(
        evidence.per_block(each) * each.site.width / 16
        for each in evidence.sites
        if each.place.path == path
    )
