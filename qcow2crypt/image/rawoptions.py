"""What a new raw file shall be like.  Checked when made; knows nothing of files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from qcow2crypt.errors import ArgumentError

RAW_PREALLOCATIONS = ("off", "falloc", "full")


class _Fields(NamedTuple):
    preallocation: Literal["off", "falloc", "full"]


class RawOptions(_Fields):
    """Options for a raw target.

    ``preallocation``  ``"off"``: what is not written is a hole; ``"falloc"``: the file system sets
                       the space aside; ``"full"``: zeros are written

    Raises ArgumentError.
    """

    __slots__ = ()

    def __new__(cls, preallocation: Literal["off", "falloc", "full"] = "off") -> RawOptions:
        """Refuse what cannot be."""
        if preallocation not in RAW_PREALLOCATIONS:
            raise ArgumentError(
                f"preallocation of a raw image is one of {', '.join(RAW_PREALLOCATIONS)}, "
                f"not {preallocation!r}"
            )
        return super().__new__(cls, preallocation)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> RawOptions:  # type: ignore[override]
        return cls(*iterable)  # for _replace: checked as well
