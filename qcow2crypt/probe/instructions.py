"""Where are AES instructions in machine code of x86-64: from bytes to sites.

Knows opcodes, no files and no processes.  Follows the encodings of the Intel 64 and IA-32
Software Developer's Manual, volume 2: AESENC and its kin with the legacy, VEX and EVEX prefixes.

Code is not disassembled: where one instruction begins is not known, so a run of bytes that looks
like an AES instruction may be the middle of others.  Legacy encodings are seven fixed hexadecimal
digits and more, and were never found elsewhere; the three free bytes of VEX and EVEX are.  So such
a site is called sure only among others of its kind, which is how AES code looks.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from typing import NamedTuple

_ROUNDS = {0xDB: "aesimc", 0xDC: "aesenc", 0xDD: "aesenclast", 0xDE: "aesdec", 0xDF: "aesdeclast"}
_LAST = frozenset((0xDD, 0xDF))
_KEYGEN = "aeskeygenassist"
_NEAR = 1024
"""How far apart, in bytes, the instructions of one AES routine are at most."""
_FEW = 4
"""So many doubtful neighbours make each other sure."""

_VEX = re.compile(
    rb"\xc4(?=[\x00-\xff]{2}[\xdb-\xdf])[\x02\x22\x42\x62\x82\xa2\xc2\xe2][\x00-\xff]"
)
_VEX_KEYGEN = re.compile(rb"\xc4[\x03\x23\x43\x63\x83\xa3\xc3\xe3][\x79\xf9]\xdf")
_EVEX = re.compile(rb"\x62(?=[\x00-\xff]{3}[\xdc-\xdf])[\x00-\xff]{3}")
_WIDTHS = {0: 16, 1: 32, 2: 64}


class Site(NamedTuple):
    """One AES instruction.

    ``offset``  where it begins, in bytes from the start of what was searched
    ``data``    its bytes, from the first prefix to the opcode
    ``name``    the mnemonic without a v
    ``width``   bytes of state that it works on: 16, 32 or 64
    ``sure``    False where the bytes may be a part of other instructions
    """

    offset: int
    data: bytes
    name: str
    width: int
    sure: bool

    @property
    def last(self) -> bool:
        """Is it the last round of a block?  There is one for each block and direction."""
        return self.name in {"aesenclast", "aesdeclast"}

    @property
    def mnemonic(self) -> str:
        """As disassemblers write it."""
        return ("v" if self.data[:1] in {b"\xc4", b"\x62"} else "") + self.name


def find_sites(code: bytes) -> tuple[Site, ...]:
    """Every AES instruction in ``code``, in order; those in doubt too, marked."""
    legacy = sorted(_legacy(code))
    doubtful = sorted({*_vex(code), *_evex(code)})
    sure = _with_company(legacy, doubtful)
    return tuple(sorted((*legacy, *sure)))


def _legacy(code: bytes) -> Iterator[Site]:
    """66 [REX] 0F 38 opcode, and 66 [REX] 0F 3A DF for the key schedule."""
    for escape in (b"\x0f\x38", b"\x0f\x3a"):
        place = code.find(escape)
        while place >= 0:
            opcode = code[place + 2] if place + 2 < len(code) else 0
            name = _ROUNDS.get(opcode) if escape == b"\x0f\x38" else None
            if escape == b"\x0f\x3a" and opcode == 0xDF:
                name = _KEYGEN
            if name is not None:
                rex = place >= 1 and 0x40 <= code[place - 1] <= 0x4F
                start = place - 2 if rex else place - 1
                if start >= 0 and code[start] == 0x66:
                    yield Site(start, code[start : place + 3], name, 16, sure=True)
            place = code.find(escape, place + 1)


def _vex(code: bytes) -> Iterator[Site]:
    """C4 with the opcode map 0F38, and 0F3A for the key schedule; bit 2 of byte 2 is the width."""
    for found in _VEX.finditer(code):
        start = found.start()
        third, opcode = code[start + 2], code[start + 3]
        # 66 is the prefix.  AESIMC has one source, so its second register field is all ones.
        if third & 3 == 1 and (opcode != 0xDB or third & 0x7F == 0x79):
            width = 32 if third & 4 else 16
            yield Site(start, code[start : start + 4], _ROUNDS[opcode], width, sure=False)
    for found in _VEX_KEYGEN.finditer(code):
        yield Site(found.start(), found.group(), _KEYGEN, 16, sure=False)


def _evex(code: bytes) -> Iterator[Site]:
    """62 with the opcode map 0F38; masks, zeroing and broadcast do not exist for AES."""
    for found in _EVEX.finditer(code):
        start = found.start()
        first, second, third = code[start + 1 : start + 4]
        width = _WIDTHS.get(third >> 5 & 3)
        if first & 15 == 2 and second & 7 == 5 and not third & 0x97 and width is not None:
            opcode = code[start + 4]
            yield Site(start, code[start : start + 5], _ROUNDS[opcode], width, sure=False)


def _with_company(legacy: list[Site], doubtful: list[Site]) -> list[Site]:
    """``doubtful`` with each one marked sure that stands among other AES instructions."""
    legacy_at = [site.offset for site in legacy]
    at = [site.offset for site in doubtful]
    result = []
    for site in doubtful:
        low, high = site.offset - _NEAR, site.offset + _NEAR
        near = doubtful[bisect.bisect_left(at, low) : bisect.bisect_right(at, high)]
        sure = (
            bisect.bisect_left(legacy_at, low) < bisect.bisect_right(legacy_at, high)
            or len(near) > _FEW
            or {True, False} <= {each.last for each in near}
        )
        result.append(site._replace(sure=sure))
    return result
