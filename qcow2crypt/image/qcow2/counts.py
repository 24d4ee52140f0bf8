"""How often each cluster of a file is used: counts by cluster number, in little memory.

Knows cluster numbers and counts, no file.  What is never counted costs nothing, so a table that
names a cluster at the far end of a sparse file is harmless; a cluster takes one byte, and eight
where a neighbour is used more than 255 times.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache

from qcow2crypt.units import div_up

CHUNK = 1 << 14
"""Clusters that are kept together."""
_ZEROS = bytes(CHUNK)
_BYTES = bytes(range(256))
_USED = re.compile(rb"[^\0]+")


class ClusterCounts:
    """Counts of 0 to 2**64 - 1, all 0 at first.  A larger one stays at that limit."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray | array[int]] = {}

    def __getitem__(self, cluster: int) -> int:
        chunk = self._chunks.get(cluster // CHUNK)
        return 0 if chunk is None else chunk[cluster % CHUNK]

    def __setitem__(self, cluster: int, count: int) -> None:
        index, place = divmod(cluster, CHUNK)
        chunk = self._chunk(index)
        try:
            chunk[place] = count
        except ValueError:
            self._widen(index)[place] = count

    def add(self, cluster: int, times: int = 1) -> None:
        """Count one cluster ``times`` more (or less, if negative)."""
        self[cluster] = min(self[cluster] + times, (1 << 64) - 1)

    def add_run(self, first: int, count: int, times: int = 1) -> None:
        """Count ``count`` clusters from ``first`` on."""
        while count > 0:
            index, place = divmod(first, CHUNK)
            part = min(count, CHUNK - place)
            self._add_part(index, place, part, times)
            first += part
            count -= part

    def _add_part(self, index: int, place: int, count: int, times: int) -> None:
        chunk = self._chunk(index)
        end = place + count
        if isinstance(chunk, bytearray):
            if count == 1:
                if 0 <= (new := chunk[place] + times) < 256:
                    chunk[place] = new
                    return
            elif not (old := chunk[place:end]).translate(None, _fit(times)):
                chunk[place:end] = old.translate(_shifted(times))
                return
        base = index * CHUNK
        for cluster in range(base + place, base + end):
            self.add(cluster, times)

    def used(self, start: int = 0, end: int = 1 << 64) -> Iterator[int]:
        """The clusters from ``start`` to before ``end`` that have a count, in order."""
        for index in sorted(self._chunks):
            base = index * CHUNK
            chunk = self._chunks[index]
            first, last = max(base, start) - base, min(base + CHUNK, end) - base
            if isinstance(chunk, bytearray):
                for match in _USED.finditer(chunk, first, last):
                    yield from range(base + match.start(), base + match.end())
            else:
                yield from (base + place for place in range(first, last) if chunk[place])

    def clear_run(self, first: int, count: int) -> None:
        """Set ``count`` clusters from ``first`` on to 0."""
        while count > 0:
            index, place = divmod(first, CHUNK)
            part = min(count, CHUNK - place)
            chunk = self._chunks.get(index)
            if isinstance(chunk, bytearray):
                chunk[place : place + part] = bytes(part)
            elif chunk is not None:
                chunk[place : place + part] = array("Q", bytes(8 * part))
            first += part
            count -= part

    def load(self, first: int, counts: Sequence[int]) -> None:
        """Set the counts of the clusters from ``first`` on."""
        done = 0
        while done < len(counts):
            index, place = divmod(first + done, CHUNK)
            part = counts[done : done + CHUNK - place]
            done += len(part)
            if _is_zero(part):
                self.clear_run(index * CHUNK + place, len(part))
                continue
            chunk = self._chunk(index)
            if isinstance(chunk, bytearray):
                if isinstance(part, bytes) or max(part) < 256:
                    chunk[place : place + len(part)] = (
                        part if isinstance(part, bytes) else bytes(list(part))
                    )
                    continue
                chunk = self._widen(index)
            chunk[place : place + len(part)] = array("Q", list(part))

    def slice(self, first: int, count: int) -> bytes | array[int]:
        """The counts of ``count`` clusters: bytes unless one near them is above 255."""
        index, place = divmod(first, CHUNK)
        if place + count <= CHUNK:
            chunk = self._chunks.get(index)
            if chunk is None:
                return _ZEROS[:count]
            cut = chunk[place : place + count]
            return bytes(cut) if isinstance(cut, bytearray) else cut
        parts = []
        while count > 0:
            length = min(count, CHUNK - first % CHUNK)
            parts.append(self.slice(first, length))
            first += length
            count -= length
        if all(isinstance(part, bytes) for part in parts):
            return b"".join(bytes(part) for part in parts)
        wide = array("Q")
        for part in parts:
            wide.extend(part)
        return wide

    @property
    def chunks(self) -> int:
        """How many chunks of memory the counts take."""
        return len(self._chunks)

    @property
    def end(self) -> int:
        """One more than the highest cluster that has a count; 0 if none has."""
        for index in sorted(self._chunks, reverse=True):
            chunk = self._chunks[index]
            if isinstance(chunk, bytearray):
                if length := len(chunk.rstrip(b"\0")):
                    return index * CHUNK + length
                continue
            for place in reversed(range(CHUNK)):
                if chunk[place]:
                    return index * CHUNK + place + 1
        return 0

    def used_ranges(self, unit: int) -> Iterator[int]:
        """The numbers of those ranges of ``unit`` clusters that have a count, in order."""
        last = None
        for index in sorted(self._chunks):
            chunk = self._chunks[index]
            if _is_zero(chunk):
                continue
            start = index * CHUNK
            for number in range(start // unit, div_up(start + CHUNK, unit)):
                a, b = max(number * unit - start, 0), min((number + 1) * unit - start, CHUNK)
                if number != last and not _is_zero(chunk[a:b]):
                    last = number
                    yield number

    def first_free(self, start: int, count: int) -> int:
        """The first cluster from ``start`` on where ``count`` clusters in a row are not counted."""
        found = 0
        position = start
        highest = max(self._chunks, default=-1)
        while found < count:
            index, place = divmod(position, CHUNK)
            if index > highest:
                return position - found
            chunk = self._chunks.get(index)
            used = 0 if chunk is None else _used_ahead(chunk, place)
            if used:
                found = 0
                position += used
                continue
            free = CHUNK - place if chunk is None else _free_ahead(chunk, place)
            found += free
            position += free
        return position - found

    def copy(self) -> ClusterCounts:
        """The same counts, on their own."""
        twin = ClusterCounts()
        twin._chunks = {index: chunk[:] for index, chunk in self._chunks.items()}
        return twin

    def over(self, limit: int) -> int:
        """By how much all counts together go beyond ``limit``."""
        chunks = (chunk for chunk in self._chunks.values() if _is_over(chunk, limit))
        return sum(count - limit for chunk in chunks for count in chunk if count > limit)

    def clamp(self, limit: int) -> None:
        """Lower every count that is above ``limit``."""
        for chunk in self._chunks.values():
            if _is_over(chunk, limit):
                for place, count in enumerate(chunk):
                    if count > limit:
                        chunk[place] = limit

    def _chunk(self, index: int) -> bytearray | array[int]:
        chunk = self._chunks.get(index)
        if chunk is None:
            chunk = self._chunks[index] = bytearray(CHUNK)
        return chunk

    def _widen(self, index: int) -> array[int]:
        wide = array("Q", list(self._chunks[index]))
        self._chunks[index] = wide
        return wide


@lru_cache
def _shifted(times: int) -> bytes:
    """What each count becomes when ``times`` are added."""
    return bytes(count + times & 255 for count in range(256))


@lru_cache
def _fit(times: int) -> bytes:
    """The counts that still are 0 to 255 when ``times`` are added."""
    return _BYTES[max(0, -times) : max(0, 256 - times)]


def _is_zero(counts: Sequence[int]) -> bool:
    """Whether the counts of one chunk, or of a part of it, are all 0."""
    if isinstance(counts, (bytes, bytearray)):
        return counts == _ZEROS[: len(counts)]
    return not any(counts)


def _is_over(chunk: bytearray | array[int], limit: int) -> bool:
    """Is any count above ``limit``?"""
    if isinstance(chunk, bytearray):
        return bool(chunk.translate(None, _BYTES[: limit + 1]))
    return max(chunk) > limit


def _used_ahead(chunk: bytearray | array[int], place: int) -> int:
    """How many clusters from ``place`` on are counted."""
    if isinstance(chunk, bytearray):
        free = chunk.find(0, place)
        return (CHUNK if free < 0 else free) - place
    return next((at for at in range(place, CHUNK) if not chunk[at]), CHUNK) - place


def _free_ahead(chunk: bytearray | array[int], place: int) -> int:
    """How many clusters from ``place`` on are not counted."""
    if isinstance(chunk, bytearray):
        rest = chunk[place:]
        return len(rest) - len(rest.lstrip(b"\0"))
    return next((at for at in range(place, CHUNK) if chunk[at]), CHUNK) - place
