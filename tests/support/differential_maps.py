"""What ``info`` and ``map`` print as JSON, brought to what both programs can be asked for.

Knows JSON, no images.
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]

OUR_KEY = "qcow2crypt"
"""The one key of ``info`` that qemu-img does not have."""
_NEWER_KEYS = frozenset(["children"])
"""Keys of ``info`` that came after QEMU 7.2: the nodes of its block graph, which we have not."""


def comparable_info(description: Entry) -> Entry:
    """``description`` without what only one of the two programs can know."""
    return {
        key: value
        for key, value in description.items()
        if key != OUR_KEY and key not in _NEWER_KEYS
    }


def comparable_map(entries: list[Entry], like: list[Entry]) -> list[Entry]:
    """``entries`` with no more keys than those of ``like``, and merged as these are.

    QEMU 8.2 has a key ``compressed``, as we have; 7.2 does not, and does not cut there.
    """
    keys = {key for entry in like for key in entry} | {"offset"}
    result: list[Entry] = []
    for entry in entries:
        cut = {key: value for key, value in entry.items() if key in keys}
        if result and _follows(result[-1], cut):
            result[-1]["length"] += cut["length"]
        else:
            result.append(cut)
    return result


def zero_ranges(entries: list[Entry], start: int = 0) -> list[tuple[int, int]]:
    """The ranges (start, end) from ``start`` on that read as zeros without being stored."""
    ranges: list[tuple[int, int]] = []
    for entry in entries:
        first, end = max(start, entry["start"]), entry["start"] + entry["length"]
        if entry["data"] or first >= end:
            continue
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((first, end))
    return ranges


def _follows(first: Entry, second: Entry) -> bool:
    same = all(
        first.get(key) == second.get(key)
        for key in first.keys() | second.keys()
        if key not in {"start", "length", "offset"}
    )
    if not same or ("offset" in first) != ("offset" in second):
        return False
    return "offset" not in first or first["offset"] + first["length"] == second["offset"]
