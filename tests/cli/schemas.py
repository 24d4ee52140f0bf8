"""The JSON Schemas of the outputs, from docs/schemas."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema of ``info``, ``map`` or ``progress``, which is itself a valid schema."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return found
