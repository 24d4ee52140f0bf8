"""Compares the values of fips197.json with the printed standard, line by line.

Takes the text of the 2001 edition, as a PDF reader extracts it.  Knows how that text looks;
computes nothing.
"""

from __future__ import annotations

import re
from typing import Any


def differences(text: str, document: dict[str, Any]) -> list[str]:
    """What the printed standard says otherwise, in words.  Empty when all is equal."""
    return [
        *_appendix_a(text, document),
        *_appendix_b(text, document),
        *_appendix_c(text, document),
        *_figures(text, document),
    ]


def _appendix_a(text: str, document: dict[str, Any]) -> list[str]:
    printed: list[list[str]] = []
    line = re.compile(r"^(\d+) ((?:[0-9a-f]{8} ?)+)$")
    for match in filter(None, (line.match(row.strip()) for row in text.splitlines())):
        if int(match[1]) in (4, 6, 8) and (not printed or len(printed[-1]) > 36):
            printed.append([])
        printed[-1].append(match[2].split()[-1])
    computed = [
        row["words"][len(row["key"]) // 8 :] for row in document["key_expansion"]
    ]  # the first words are the key itself
    return [] if printed == computed else ["appendix A: the key schedules differ"]


def _appendix_b(text: str, document: dict[str, Any]) -> list[str]:
    section = text[text.rindex("Appendix B ") : text.rindex("Legend for CIPHER (ENCRYPT)")]
    stream = " ".join(re.findall(r"\b[0-9a-f]{2}\b", section))
    found = []
    for row in document["traces"]:
        state = row["state"]
        by_rows = " ".join(state[2 * (4 * c + r) :][:2] for r in range(4) for c in range(4))
        if row["case"] == "B" and by_rows not in stream:
            found.append(f"appendix B: round {row['round']} {row['step']} is not printed")
    return found


def _appendix_c(text: str, document: dict[str, Any]) -> list[str]:
    pattern = re.compile(r"round\[\s*(\d+)\]\.(\w+)\s+([0-9a-f]{32})\b")
    printed = [(int(r), step, state) for r, step, state in pattern.findall(text)]
    starts = [i for i, row in enumerate(printed) if row[1] in ("input", "iinput")]
    sections = [printed[i:j] for i, j in zip(starts, [*starts[1:], len(printed)], strict=True)]
    # For each key length: the cipher, the inverse cipher, the equivalent inverse cipher.
    wanted = [row for i, section in enumerate(sections) if i % 3 != 1 for row in section]
    computed = [
        (row["round"], row["step"], row["state"])
        for row in document["traces"]
        if row["case"] != "B"
    ]
    if len(sections) == 9 and wanted == computed:
        return []
    return ["appendix C: the states differ"]


def _figures(text: str, document: dict[str, Any]) -> list[str]:
    stream = " ".join(text.split())
    return [
        f"{name}: row {x:x} is not printed so"
        for name in ("sbox", "inverse_sbox")
        for x in range(16)
        if f"{x:x} " + " ".join(re.findall("..", document[name][32 * x : 32 * x + 32]))
        not in stream
    ]
