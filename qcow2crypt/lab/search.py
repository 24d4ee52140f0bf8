"""Search a given image for what its ciphertext gives away.  Needs no key.

Two questions, for any encrypted qcow2 image: are there sectors whose ciphertext begins alike though
they lie at different places of the disk (a watermark, or data that counts), and which sectors are
the same in a snapshot and now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from qcow2crypt.image.info import Snapshot
from qcow2crypt.lab.counting import runs
from qcow2crypt.lab.counting import sectors as sectors_of
from qcow2crypt.lab.stored import Name, Stored, StoredRun
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

_FILTER_BITS_MIN, _FILTER_BITS_MAX = 16, 30
_PIECE_BYTES = 1 << 20


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

    The image is read twice, so that memory is needed for what repeats and little more.  Raises
    SourceError, FormatError, LabError.
    """
    known: dict[bytes, list[int]] = defaultdict(list)
    zero = 0
    with Stored(image) as stored:
        sectors = sum(run.length for run in stored.runs()) // SECTOR_SIZE
        again = _Again(sectors)
        for _, _, data in stored.sectors():
            again.add(data[:BLOCK_SIZE])
        for number, _, data in stored.sectors():
            first = data[:BLOCK_SIZE]
            if not any(first) and not any(data):
                zero += 1
            elif again.maybe(first):
                known[first].append(number)
        encryption = stored.encryption
    groups = sorted((tuple(one) for one in known.values() if len(one) > 1), key=_largest_first)
    return Marks(encryption, sectors - zero, zero, tuple(groups))


class _Again:
    """What was added more than once.  May say so of what was not, seldom; never the other way.

    Ciphertext is its own hash: bits of a block choose a place.
    """

    def __init__(self, expected: int) -> None:
        wanted = (16 * expected).bit_length()
        bits = max(_FILTER_BITS_MIN, min(_FILTER_BITS_MAX, wanted))
        self._mask = (1 << bits) - 1
        self._once = bytearray(1 << bits - 3)
        self._twice = bytearray(1 << bits - 3)

    def add(self, block: bytes) -> None:
        place = int.from_bytes(block[:8], "little") & self._mask
        at, bit = place >> 3, 1 << (place & 7)
        if self._once[at] & bit:
            self._twice[at] |= bit
        else:
            self._once[at] |= bit

    def maybe(self, block: bytes) -> bool:
        place = int.from_bytes(block[:8], "little") & self._mask
        return bool(self._twice[place >> 3] & 1 << (place & 7))


def _largest_first(group: tuple[int, ...]) -> tuple[int, int]:
    return -len(group), group[0]


def marked_sectors(image: Name) -> set[int]:
    """The sectors that ``search_marks`` finds."""
    return {number for group in search_marks(image).groups for number in group}


def search_stages(image: Name) -> tuple[str, tuple[Stages, ...]]:
    """How the image is encrypted; for each snapshot, what was written since, as far as it shows.

    Raises SourceError, FormatError, LabError.
    """
    with Stored(image) as stored:
        found = tuple(_stages(stored, snapshot) for snapshot in stored.snapshots())
        return stored.encryption, found


def _stages(stored: Stored, snapshot: Snapshot) -> Stages:
    both = rewritten = 0
    changed: list[int] = []
    for guest, old, new, length in _overlaps(stored.runs(snapshot), stored.runs()):
        both += length // SECTOR_SIZE
        if old == new:
            continue
        rewritten += length // SECTOR_SIZE
        for start in range(0, length, _PIECE_BYTES):
            size = min(_PIECE_BYTES, length - start)
            pair = (stored.file.pread(size, host + start) for host in (old, new))
            first = (guest + start) // SECTOR_SIZE
            for place, (one, other) in enumerate(zip(*map(sectors_of, pair), strict=True)):
                if one != other:
                    changed.append(first + place)
    equal = rewritten - len(changed)
    return Stages(snapshot.name or snapshot.id, both, rewritten, equal, tuple(runs(changed)))


def _overlaps(
    first: Iterator[StoredRun], second: Iterator[StoredRun]
) -> Iterator[tuple[int, int, int, int]]:
    """What two ascending lists of runs share: guest offset, both host offsets, length."""
    one, other = next(first, None), next(second, None)
    while one is not None and other is not None:
        start = max(one.guest, other.guest)
        ends = one.guest + one.length, other.guest + other.length
        if start < min(ends):
            hosts = one.host + start - one.guest, other.host + start - other.guest
            yield start, *hosts, min(ends) - start
        if ends[0] <= ends[1]:
            one = next(first, None)
        else:
            other = next(second, None)


def first_change(before: bytes, after: bytes) -> int | None:
    """The first block in which two ciphertexts of one sector differ, from 0; None if in none."""
    for number in range(len(before) // BLOCK_SIZE):
        place = slice(number * BLOCK_SIZE, (number + 1) * BLOCK_SIZE)
        if before[place] != after[place]:
            return number
    return None
