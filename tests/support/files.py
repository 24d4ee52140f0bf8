"""The bytes of a small file that is not a whole number of anything."""

from __future__ import annotations

CONTENT = bytes(range(256)) * 5 + b"end"
