"""Where are the tables of software AES in a file: from bytes to places to watch.

Knows what tables look like in memory, no files and no processes.  Table AES reads an S-box or
T-tables for every block; vector-permute AES, for processors with SSSE3, loads its constants for
every run.  That a table is there proves nothing: whether it is read is for a watchpoint to tell.

The tables are those of FIPS-197 and of "The Design of Rijndael", section 4.2, as the textbook of
this package computes them; the constants of vector-permute AES are those of Mike Hamburg,
"Accelerating AES with Vector Permute Instructions" (2009).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WATCHED = 8
"""Bytes that a watchpoint looks at."""


_VECTOR_PERMUTE = bytes.fromhex("8001080d0f06050e020c0b0a09030704")


class Table(NamedTuple):
    """A table of software AES.

    ``offset``  where it begins, in bytes from the start of what was searched
    ``name``    which one it is
    ``vector``  True for the constants of vector-permute AES (SSSE3)
    """

    offset: int
    name: str
    vector: bool = False


def watch_offset(table: Table) -> int:
    """The first place in the table that a watchpoint can be put on: they are aligned to 8."""
    return -(-table.offset // WATCHED) * WATCHED


def find_tables(data: bytes) -> tuple[Table, ...]:
    """Every table of software AES that begins in ``data``, in order."""
    found = []
    for name, signature, vector in _signatures():
        place = data.find(signature)
        while place >= 0:
            found.append(Table(place, name, vector))
            place = data.find(signature, place + 1)
    return tuple(sorted(found))


@functools.cache
def _signatures() -> tuple[tuple[str, bytes, bool], ...]:
    """Name and first 16 bytes of every form that a table takes in memory."""
    from qcow2crypt.reference import tables

    rows = [
        ("S-box", bytes(tables.sbox[:16]), False),
        ("inverse S-box", bytes(tables.isbox[:16]), False),
        ("vector-permute constants", _VECTOR_PERMUTE, True),
    ]
    for name in ("Te0", "Te1", "Te2", "Te3", "Te4", "Td0", "Td1", "Td2", "Td3", "Td4"):
        words: Sequence[int] = getattr(tables, name)
        rows += [(form, signature, False) for form, signature in _word_forms(name, words)]
    return tuple(rows)


def _word_forms(name: str, words: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """The words once each, and each word twice, as 64-bit entries hold them; both byte orders."""
    # In the tables that end in 4 all bytes of a word are the same.
    little = [word.to_bytes(4, "little") for word in words[:4]]
    turned = [text[::-1] for text in little]
    forms = [("", little)] if name.endswith("4") else [("", little), (", bytes turned", turned)]
    for suffix, texts in forms:
        yield name + suffix, b"".join(texts)
        yield f"{name}, doubled{suffix}", b"".join(text * 2 for text in texts[:2])
