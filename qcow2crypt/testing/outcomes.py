"""What becomes of an image when this package reads all of it, in the words of the corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import qcow2crypt
from qcow2crypt.errors import FormatError, MappingError, Qcow2CryptError
from qcow2crypt.testing.corpus import Outcome

_PIECE = 1 << 20
LARGEST = 64 << 20
"""Of a larger disk only the size is told."""


def read_whole(
    source: Path | BinaryIO,
    format_name: str | None,
    secrets: Mapping[int, bytes] | None = None,
) -> Outcome:
    """Open an image, read its disk, and tell how that went.

    ``format_name`` None looks at the first bytes; passphrases go by depth.
    """
    try:
        image = qcow2crypt.open(
            source,
            format=format_name,
            secrets=cast("Mapping[str | int, bytes]", dict(secrets or {})),
        )
    except Qcow2CryptError as error:
        return _outcome("refused", error)
    with image:
        if image.size > LARGEST:
            return Outcome("reads", size=image.size)
        digest = hashlib.sha256()
        try:
            for offset in range(0, image.size, _PIECE):
                digest.update(image.pread(_PIECE, offset))
        except Qcow2CryptError as error:
            return _outcome("unreadable", error)
        return Outcome("reads", size=image.size, sha256=digest.hexdigest())


def _outcome(result: str, error: Qcow2CryptError) -> Outcome:
    where = (error.field, error.offset) if isinstance(error, FormatError) else (None, None)
    guest_offset = error.guest_offset if isinstance(error, MappingError) else None
    return Outcome(
        "refused" if result == "refused" else "unreadable",
        error=type(error).__name__,
        field=where[0],
        offset=where[1],
        guest_offset=guest_offset,
    )
