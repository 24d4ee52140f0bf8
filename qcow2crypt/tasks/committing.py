"""Bring the data of an overlay down into the image under it: the work of ``commit``.

Each layer is read and written with its own passphrase, so data is encrypted anew on the way.
The base is on the disk before the overlay is emptied: a crash in between loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from qcow2crypt.errors import ArgumentError, BackingChainError, ReadOnlyError
from qcow2crypt.image import open_layers
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import Extent, ExtentKind
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.secrets import secrets_by_layer
from qcow2crypt.secret import Secret

if TYPE_CHECKING:
    from qcow2crypt.image.chain import Place

Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20


def commit(
    source: str | os.PathLike[str],
    secret: Secret = None,
    *,
    base: str | None = None,
    keep: bool = False,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    secrets: Mapping[str | int, Secret] | None = None,
    external: External = DEFAULT,
    engine: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write what the overlay ``source`` has into its backing file, and empty the overlay.

    ``base`` names another file of the chain to write to; then, and with ``keep``, the overlay
    stays as it is.  A base that is shorter grows.  Other arguments as ``qcow2crypt.open``.

    Raises BackingChainError where there is no such base, and what opening and writing raise.
    """
    from qcow2crypt.image import Reading

    keep = keep or base is not None
    with open_layers(
        source,
        secrets_by_layer(secret, secrets),
        "r" if keep else "r+",
        options=LayerOptions(format=format),
        reading=Reading(engine),
        external=external,
        writes=is_base(base),
    ) as image:
        commit_layers(image, keep=keep, base=base, progress=progress)


def is_base(base: str | None) -> Callable[[Place], bool]:
    """Tells the place of the base in a chain: the first below the image, or that of a name."""

    def wanted(place: Place) -> bool:
        if base is None:
            return place.depth == 1
        if base in (place.path, place.stored):
            return True
        return os.path.realpath(base) == os.path.realpath(place.path)

    return wanted


def commit_layers(
    image: Image, *, keep: bool, base: str | None = None, progress: Progress | None = None
) -> None:
    """The same for an image that is open, with its base open for writing."""
    depth, target = _base_of(image, base)
    old_size = target.size
    if image.size > old_size:
        target.truncate(image.size)
    for extent in image.extents():
        if progress:
            progress(extent.guest_offset, image.size)
        if extent.depth < depth:
            _copy(image, target, extent, old_size)
    target.flush()
    if not keep:
        if not isinstance(image, Qcow2Editor):
            raise ArgumentError(f"'{image.name}' is not open for writing: it cannot be emptied")
        image.make_empty()
        image.flush()
    if progress:
        progress(image.size, image.size)


def _base_of(image: Image, base: str | None) -> tuple[int, Image]:
    """The layer that is open for writing, and how deep it lies."""
    if image.backing is None:
        raise BackingChainError(f"'{image.name}' has no backing file to commit to")
    depth, layer = 1, image.backing
    while not layer.writable():
        if layer.backing is None:
            if base is None:
                raise ReadOnlyError(f"'{image.backing.name}' cannot be written")
            raise BackingChainError(
                f"'{base}' is not in the chain of backing files of '{image.name}'"
            )
        depth, layer = depth + 1, layer.backing
    return depth, layer


def _copy(image: Image, target: Image, extent: Extent, old_size: int) -> None:
    start, end = extent.guest_offset, extent.guest_offset + extent.length
    if extent.kind is ExtentKind.UNALLOCATED:
        # No layer has it, yet a longer base may: a layer between is shorter, and hides that.
        end = min(end, old_size)
        if start < end:
            target.write_zeroes(start, end - start, unmap=True)
    elif extent.kind is ExtentKind.ZERO:
        target.write_zeroes(start, extent.length, unmap=True)
    else:
        for at in range(start, end, _PIECE):
            target.pwrite(image.pread(min(_PIECE, end - at), at), at)
