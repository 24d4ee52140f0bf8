"""Change what an existing qcow2 image is: version, refcounts, size.  The work of ``amend``."""

from __future__ import annotations

from typing import Literal

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.qcow2.bulk.versions import (
    check_downgrade,
    downgrade,
    set_lazy_refcounts,
    set_refcount_order,
    upgrade,
)
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.header import COMPAT_LAZY_REFCOUNTS

_WIDTHS = (1, 2, 4, 8, 16, 32, 64)


def amend(
    image: Image,
    *,
    version: Literal[2, 3] | None = None,
    lazy_refcounts: bool | None = None,
    refcount_bits: int | None = None,
    size: int | None = None,
) -> None:
    """Change an open, writable qcow2 image; None leaves a thing as it is.

    Version 2 has no flag for clusters that read as zeros.  Without a backing file they become
    unallocated; over one, zeros are written as data, encrypted where the image is.  (QEMU writes
    them in clear, so that they read as garbage from an encrypted image.)  A crash leaves an image
    with the same disk, of the old or of the new kind, save that the header is written as a whole
    when the version changes.

    Raises ArgumentError and UnsupportedFeatureError for what cannot be, before anything has
    changed; TargetError, and what writing raises.
    """
    if not isinstance(image, Qcow2Editor):
        raise UnsupportedFeatureError(f"changing the options of the format {image.format}")
    _check(image, version, lazy_refcounts, refcount_bits)
    file = image.host_file
    if version == 3:
        image.at_rest(lambda: upgrade(file, image.structure))
    if refcount_bits is not None:
        order = refcount_bits.bit_length() - 1
        image.at_rest(lambda: set_refcount_order(file, image.structure, order))
    if lazy_refcounts is not None and image.structure.header.version >= 3:
        lazy = lazy_refcounts
        image.at_rest(lambda: set_lazy_refcounts(file, image.structure, lazy=lazy))
    if size is not None and size != image.size:
        image.truncate(size)
        image.flush()
    if version == 2 and image.structure.header.version >= 3:
        _without_zero_flags(image)
        image.at_rest(lambda: downgrade(file, image.structure))


def _check(
    image: Qcow2Editor, version: int | None, lazy: bool | None, refcount_bits: int | None
) -> None:
    header = image.structure.header
    if version not in (None, 2, 3):
        raise ArgumentError(f"a version is 2 or 3, not {version}")
    if refcount_bits is not None and refcount_bits not in _WIDTHS:
        raise ArgumentError(f"a refcount has 1, 2, 4, 8, 16, 32 or 64 bits, not {refcount_bits}")
    final = version or header.version
    bits = refcount_bits or header.refcount_bits
    if final >= 3:
        return
    if lazy:
        raise ArgumentError("lazy refcounts need version 3 (compat=1.1)")
    if header.version < 3 and bits != header.refcount_bits:
        raise ArgumentError("refcounts of another width than 16 bits need version 3 (compat=1.1)")
    check_downgrade(image.host_file, image.structure, bits)


def _without_zero_flags(image: Qcow2Editor) -> None:
    """Let no entry have the zero flag, and the disk be the same."""
    if image.structure.header.compatible_features & COMPAT_LAZY_REFCOUNTS:
        image.at_rest(lambda: set_lazy_refcounts(image.host_file, image.structure, lazy=False))
    for extent in image.own_extents():
        if extent.kind is ExtentKind.ZERO:
            image.drop_zero_flags(extent.guest_offset, extent.length)
    image.forget_behind_end()
    image.flush()
