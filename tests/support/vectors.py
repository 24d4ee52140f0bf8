"""Loads the vector files of tests/vectors: hex strings to bytes, cases to small records.

Knows the form of the files (schema.json); knows nothing of what is tested with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "vectors"


@dataclass(frozen=True, slots=True)
class Case:
    """One case: AES-CBC, or AES-ECB where ``iv`` is None.  It holds in both directions."""

    id: str
    key: bytes
    iv: bytes | None
    plaintext: bytes
    ciphertext: bytes

    @property
    def bits(self) -> int:
        """The length of the key."""
        return 8 * len(self.key)


def load(name: str) -> dict[str, Any]:
    """The whole file ``name`` (without .json) as it stands."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return document


def cases(name: str) -> list[Case]:
    """The cases of the file ``name`` (without .json), in its order."""
    return [
        Case(
            id=row["id"],
            key=bytes.fromhex(row["key"]),
            iv=bytes.fromhex(row["iv"]) if "iv" in row else None,
            plaintext=bytes.fromhex(row["plaintext"]),
            ciphertext=bytes.fromhex(row["ciphertext"]),
        )
        for row in load(name)["cases"]
    ]


def groups(name: str) -> dict[str, list[Case]]:
    """The cases of a CAVP file by the answer file they come from, such as "CBCVarKey128"."""
    grouped: dict[str, list[Case]] = {}
    for case in cases(name):
        grouped.setdefault(case.id.split("/")[0], []).append(case)
    return grouped
