"""Give the disk of an open image another size, and what it grows by its place in the file."""

from __future__ import annotations

from typing import Literal, TypeAlias

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor

Preallocation: TypeAlias = Literal["off", "metadata", "falloc", "full"]

_ZEROS = bytes(1 << 20)


def resize(image: Image, size: int, *, preallocation: Preallocation = "off") -> None:
    """``image.truncate(size)``, and space for what the disk grows by.

    ``metadata`` gives it host clusters, ``falloc`` and ``full`` write zeros to them too.  It
    reads as zeros with each of them.  Raises what ``truncate`` raises; ArgumentError for
    preallocation without growth; UnsupportedFeatureError for metadata of a raw image.
    """
    old = image.size
    if preallocation not in ("off", "metadata", "falloc", "full"):
        raise ArgumentError(f"preallocation {preallocation!r} is not off, metadata, falloc or full")
    if preallocation != "off":
        if size <= old:
            raise ArgumentError("preallocation is for images that grow")
        if preallocation == "metadata" and not isinstance(image, Qcow2Editor):
            raise UnsupportedFeatureError(f"preallocation=metadata in the format {image.format}")
    image.truncate(size)
    if isinstance(image, Qcow2Editor):
        if preallocation != "off":
            image.preallocate(old, size - old, data=preallocation != "metadata")
    elif preallocation != "off":
        for at in range(old, size, len(_ZEROS)):
            image.pwrite(_ZEROS[: size - at], at)
    image.flush()
