"""Search a given image for what its ciphertext gives away.  Needs no key.

Two questions, for any encrypted qcow2 image: are there sectors whose ciphertext begins alike though
they lie at different places of the disk (a watermark, or data that counts), and which sectors are
the same in a snapshot and now.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from qcow2crypt.lab.counting import runs
from qcow2crypt.lab.stored import Name, Stored
from qcow2crypt.units import BLOCK_SIZE

_DIGEST = 12
"""So many bytes of a block are kept of each sector: enough that none are equal by chance."""


class Marks(NamedTuple):
    """What a search for marks found.

    ``sectors`` were looked at, ``groups`` are the sectors of the disk that begin alike, the largest
    group first.  ``zero`` sectors are all zeros in the file: holes, not ciphertext; not looked at.
    """

    encryption: str
    sectors: int
    zero: int
    groups: tuple[tuple[int, ...], ...]


class Stages(NamedTuple):
    """One snapshot beside the disk as it is now.

    ``both`` sectors are stored in both, ``rewritten`` of them lie at different places of the file,
    so somebody wrote to their cluster since.  Of these, ``equal`` have equal ciphertext;
    ``changed`` are the numbers of the others, as runs.
    """

    snapshot: str
    both: int
    rewritten: int
    equal: int
    changed: tuple[tuple[int, int], ...]


def search_marks(image: Name) -> Marks:
    """Which sectors of the disk begin with the same ciphertext block.

    Raises SourceError, FormatError, LabError.
    """
    known: dict[bytes, list[int]] = defaultdict(list)
    looked = zero = 0
    with Stored(image) as stored:
        for number, _, data in stored.sectors():
            looked += 1
            if not any(data):
                zero += 1
                continue
            known[data[:_DIGEST]].append(number)
        encryption = stored.encryption
    groups = sorted((tuple(one) for one in known.values() if len(one) > 1), key=_largest_first)
    return Marks(encryption, looked - zero, zero, tuple(groups))


def _largest_first(group: tuple[int, ...]) -> tuple[int, int]:
    return -len(group), group[0]


def marked_sectors(image: Name) -> set[int]:
    """The sectors that ``search_marks`` finds."""
    return {number for group in search_marks(image).groups for number in group}


def search_stages(image: Name) -> tuple[str, tuple[Stages, ...]]:
    """How the image is encrypted; for each snapshot, what was written since, as far as it shows.

    Raises SourceError, FormatError, LabError.
    """
    found = []
    with Stored(image) as stored:
        now = {number: (host, data) for number, host, data in stored.sectors()}
        for snapshot in stored.snapshots():
            both = equal = 0
            changed = []
            for number, host, data in stored.sectors(snapshot):
                if number not in now:
                    continue
                both += 1
                place, other = now[number]
                if place == host:
                    continue
                if other == data:
                    equal += 1
                else:
                    changed.append(number)
            rewritten = equal + len(changed)
            name = snapshot.name or snapshot.id
            found.append(Stages(name, both, rewritten, equal, tuple(runs(changed))))
        return stored.encryption, tuple(found)


def first_change(before: bytes, after: bytes) -> int | None:
    """The first block in which two ciphertexts of one sector differ, from 0; None if in none."""
    for number in range(len(before) // BLOCK_SIZE):
        place = slice(number * BLOCK_SIZE, (number + 1) * BLOCK_SIZE)
        if before[place] != after[place]:
            return number
    return None
