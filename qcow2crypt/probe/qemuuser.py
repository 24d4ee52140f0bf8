"""Read what qemu-user wrote down: which AES instructions ran, and in which file.

Text in, places out.  The log has the system calls (-strace), the disassembly of all code when it is
translated (-d in_asm), and where the program lies (-d page).  Code is translated before it runs for
the first time, so each instruction stands there once, however often it ran.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

OPTIONS = ("-cpu", "max", "-strace", "-d", "in_asm,page")

_OPEN = re.compile(r'open(?:at)?\((?:-?\w+,)?"([^"]*)".*\) = (\d+)$')
_MAP = re.compile(
    r"mmap\([^,]*,(\d+),[^,]*PROT_EXEC[^,]*,[^,]*,(\d+),(0x[0-9a-f]+|\d+)\) = 0x(\w+)"
)
_START = re.compile(r"start_code\s+0x([0-9a-f]+)")
_CODE = re.compile(r"0x([0-9a-f]+):\s+((?:[0-9a-f]{2} )+)\s+v?aes\w+")


def read_log(lines: Iterable[str]) -> Iterator[tuple[str, int, bytes]]:
    """File, offset in it and bytes of every AES instruction that was translated.

    The program itself has the path "" and its offset counts from its first executable segment.
    """
    files: dict[str, str] = {}
    mapped: list[tuple[int, int, str, int]] = []
    start = None
    for line in lines:
        if found := _CODE.match(line):
            address, data = int(found[1], 16), bytes.fromhex(found[2])
            inside = next((row for row in mapped if row[0] <= address < row[1]), None)
            if inside is not None:
                yield inside[2], address - inside[0] + inside[3], data
            elif start is not None and address >= start:
                yield "", address - start, data
        elif found := _OPEN.search(line):
            files[found[2]] = found[1]
        elif (found := _MAP.search(line)) and found[2] in files:
            base = int(found[4], 16)
            mapped.insert(0, (base, base + int(found[1]), files[found[2]], int(found[3], 0)))
        elif (found := _START.match(line)) and start is None:
            start = int(found[1], 16)
