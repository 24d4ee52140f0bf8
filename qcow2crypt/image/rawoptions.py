"""What a new raw file shall be like.  Checked when made; knows nothing of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qcow2crypt.errors import ArgumentError

RAW_PREALLOCATIONS = ("off", "falloc", "full")


@dataclass(frozen=True, slots=True)
class RawOptions:
    """Options for a raw target.

    ``preallocation``  ``"off"``: what is not written is a hole; ``"falloc"``: the file system sets
                       the space aside; ``"full"``: zeros are written

    Raises ArgumentError.
    """

    preallocation: Literal["off", "falloc", "full"] = "off"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.preallocation not in RAW_PREALLOCATIONS:
            raise ArgumentError(
                f"preallocation of a raw image is one of {', '.join(RAW_PREALLOCATIONS)}, "
                f"not {self.preallocation!r}"
            )
