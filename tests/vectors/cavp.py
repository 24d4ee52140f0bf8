"""NIST's CAVP answer files (.rsp) to cases.

Knows the .rsp format and which files matter here: GFSbox, KeySbox, VarKey, VarTxt (known
answers), MMT (messages of 1 to 10 blocks) for ECB and CBC, MCT (chains of 1000) for CBC.
Follows NIST's AESAVS, "The Advanced Encryption Standard Algorithm Validation Suite".
"""

from __future__ import annotations

import hashlib
from pathlib import Path

KINDS = ("GFSbox", "KeySbox", "VarKey", "VarTxt", "MMT")
KEY_BITS = (128, 192, 256)
FIELDS = ("key", "iv", "plaintext", "ciphertext")
CHAINS_PER_FILE = 2  # of 100 in the original: each is 1000 blocks, slow in pure Python


class SourceProblemError(Exception):
    """An answer file is missing, or copies of it do not say the same."""


def read_answers(folder: Path, name: str) -> tuple[str, list[dict[str, str]]]:
    """The SHA-256 and the cases of the file ``name``, wherever it lies below ``folder``.

    Line ends are made LF first.  All copies found must agree: two packages, two witnesses.
    """
    copies = {path.read_bytes().replace(b"\r\n", b"\n").rstrip() for path in folder.rglob(name)}
    if len(copies) != 1:
        raise SourceProblemError(f"{len(copies)} different copies of {name} under {folder}")
    text = copies.pop() + b"\n"
    return hashlib.sha256(text).hexdigest(), _parse(text.decode("ascii"))


def _parse(text: str) -> list[dict[str, str]]:
    cases: list[dict[str, str]] = []
    direction = ""
    for line in text.splitlines():
        if line.startswith("["):
            direction = line.strip("[]").lower()
        elif line.startswith("COUNT"):
            cases.append({"direction": direction, "count": line.split()[-1]})
        elif " = " in line and not line.startswith("#"):
            name, value = line.split(" = ")
            cases[-1][name.lower()] = value
    return cases


def answers(folder: Path, mode: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The sources and cases of all known-answer and MMT files of ``mode`` ("ECB" or "CBC").

    Known-answer files list every case twice, to encrypt and to decrypt; it is kept once.
    """
    sources: list[dict[str, str]] = []
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    for kind in KINDS:
        for bits in KEY_BITS:
            name = f"{mode}{kind}{bits}"
            digest, cases = read_answers(folder, f"{name}.rsp")
            sources.append({"file": f"{name}.rsp", "sha256": digest})
            for case in cases:
                row = {"id": f"{name}/{case['direction']}/{case['count']}"}
                row |= {field: case[field] for field in FIELDS if field in case}
                kept.setdefault((name, *list(row.values())[1:]), row)
    return sources, list(kept.values())


def chains(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The sources and the first chains of the Monte Carlo files, for CBC."""
    sources: list[dict[str, str]] = []
    rows: list[dict[str, str]] = []
    for bits in KEY_BITS:
        name = f"CBCMCT{bits}"
        digest, cases = read_answers(folder, f"{name}.rsp")
        sources.append({"file": f"{name}.rsp", "sha256": digest})
        for case in cases:
            if int(case["count"]) >= CHAINS_PER_FILE:
                continue
            ends = ("plaintext", "ciphertext")
            start, end = ends if case["direction"] == "encrypt" else reversed(ends)
            rows.append(
                {
                    "id": f"{name}/{case['direction']}/{case['count']}",
                    "direction": case["direction"],
                    "key": case["key"],
                    "iv": case["iv"],
                    "input": case[start],
                    "output": case[end],
                }
            )
    return sources, rows
