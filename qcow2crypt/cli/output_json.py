"""Results as JSON, in the form that qemu-img prints.  Knows dictionaries and extents.

The schemas are in qcow2crypt/cli/schemas; docs/json-output.md explains them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from qcow2crypt.cli.mapping import MapEntry


def info_json(description: Any) -> str:  # noqa: ANN401 - any JSON value
    """The answer of ``info --output=json``: an object, or a list with --backing-chain."""
    return json.dumps(description, indent=4)


def map_json(entries: Iterable[MapEntry]) -> Iterator[str]:
    """The lines of ``map --output=json``: one extent a line, so that a huge map can stream."""
    line = "["
    for entry in entries:
        if line != "[":
            yield line + ","
            line = ""
        line += _entry_json(entry)
    yield line + "]"


def _entry_json(entry: MapEntry) -> str:
    fields = {
        "start": entry.start,
        "length": entry.length,
        "depth": 0,
        "present": entry.present,
        "zero": entry.zero,
        "data": entry.data,
        "compressed": entry.compressed,
    }
    if entry.raw_offset is not None:
        fields["offset"] = entry.raw_offset
    inside = ", ".join(f'"{key}": {json.dumps(value)}' for key, value in fields.items())
    return f"{{ {inside}}}"
