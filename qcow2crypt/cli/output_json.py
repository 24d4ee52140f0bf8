"""Results as JSON, in the form that qemu-img prints.  Knows dictionaries and extents.

The schemas are in docs/schemas; docs/json-output.md explains them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qcow2crypt.cli.mapping import MapEntry
from qcow2crypt.engines import Status
from qcow2crypt.tasks.measuring import Measurement

if TYPE_CHECKING:
    from qcow2crypt.tasks.checking import CheckResult, SuspectSector


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


def measure_json(found: Measurement) -> str:
    """The answer of ``measure --output=json``, in the order of qemu-img."""
    sizes = {} if found.bitmaps is None else {"bitmaps": found.bitmaps}
    sizes |= {"required": found.required, "fully-allocated": found.fully_allocated}
    return json.dumps(sizes, indent=4)


def check_json(result: CheckResult, suspects: list[SuspectSector] | None) -> str:
    """The answer of ``check --output=json``; with --wrong-iv, one key of our own."""
    answer = result.as_dict()
    if suspects is not None:
        rows = [{"guest": each.guest_offset, "host": each.host_offset} for each in suspects]
        answer["qcow2crypt"] = {"wrong-iv-suspects": rows}
    return json.dumps(answer, indent=4)


def engines_json(status: Status) -> str:
    """The answer of ``engines --output=json``."""
    answer = {
        "used": status.used or None,
        "kernel": status.kernel or None,
        "why": status.why,
        "engines": [engine._asdict() for engine in status.engines],
        "kernels": [kernel._asdict() for kernel in status.kernels],
        "features": [feature._asdict() for feature in status.features],
    }
    return json.dumps(answer, indent=4)


def _entry_json(entry: MapEntry) -> str:
    fields = {
        "start": entry.start,
        "length": entry.length,
        "depth": entry.depth,
        "present": entry.present,
        "zero": entry.zero,
        "data": entry.data,
        "compressed": entry.compressed,
    }
    if entry.raw_offset is not None:
        fields["offset"] = entry.raw_offset
    inside = ", ".join(f'"{key}": {json.dumps(value)}' for key, value in fields.items())
    return f"{{ {inside}}}"
