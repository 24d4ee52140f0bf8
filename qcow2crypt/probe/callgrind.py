"""Read what valgrind's tool callgrind counted: how often each instruction ran.

Text in, numbers out.  Follows the valgrind manual, "Callgrind Format Specification", with names and
positions not compressed.  Addresses in a file with a name are those of the file, not of memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

OPTIONS = (
    "--tool=callgrind",
    "--dump-instr=yes",
    "--dump-line=no",
    "--compress-pos=no",
    "--compress-strings=no",
    "--trace-children=yes",
    "-q",
    "--vgdb=no",
)


def read_counts(lines: Iterable[str]) -> Counter[tuple[str, int]]:
    """File and address of every instruction that ran in a file with a name, and how often."""
    counts: Counter[tuple[str, int]] = Counter()
    path, of_call = "", False
    for line in lines:
        if line.startswith("ob="):
            path = line[3:].strip()
        elif line.startswith("calls="):
            of_call = True  # the next line is what the call cost, not an instruction more
        elif line.startswith("0x"):
            fields = line.split()
            if not of_call and path not in {"", "???"} and len(fields) == 2:
                try:
                    counts[path, int(fields[0], 16)] += int(fields[1])
                except ValueError:
                    continue
            of_call = False
    return counts
