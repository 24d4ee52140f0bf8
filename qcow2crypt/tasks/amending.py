"""Change what an existing qcow2 image is: version, refcounts, size.  The work of ``amend``."""

from __future__ import annotations

import os
from typing import Literal

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.names import path_beside
from qcow2crypt.image.qcow2.bulk.headercluster import write_data_file
from qcow2crypt.image.qcow2.bulk.versions import (
    check_downgrade,
    downgrade,
    set_lazy_refcounts,
    set_refcount_order,
    upgrade,
)
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.header import (
    AUTOCLEAR_RAW_DATA_FILE,
    COMPAT_LAZY_REFCOUNTS,
    INCOMPAT_DATA_FILE,
)

_WIDTHS = (1, 2, 4, 8, 16, 32, 64)


def amend(
    image: Image,
    *,
    version: Literal[2, 3] | None = None,
    lazy_refcounts: bool | None = None,
    refcount_bits: int | None = None,
    size: int | None = None,
    data_file: str | None = None,
    data_file_raw: bool | None = None,
) -> None:
    """Change an open, writable qcow2 image; None leaves a thing as it is.

    Version 2 has no flag for clusters that read as zeros.  Without a backing file they become
    unallocated; over one, zeros are written as data, encrypted where the image is.  (QEMU writes
    them in clear, so that they read as garbage from an encrypted image.)  A crash leaves an image
    with the same disk, of the old or of the new kind, save that the header is written as a whole
    when the version changes.

    ``data_file`` is another name for the external data file: nothing is copied, and the file is
    looked at when the image is opened the next time.  An empty name says that whoever opens the
    image names the file.  ``data_file_raw`` can be taken back, and not be set anew.

    Raises ArgumentError and UnsupportedFeatureError for what cannot be, before anything has
    changed; TargetError, and what writing raises.
    """
    if not isinstance(image, Qcow2Editor):
        raise UnsupportedFeatureError(f"changing the options of the format {image.format}")
    _check(image, version, lazy_refcounts, refcount_bits)
    _check_data_file(image, data_file, data_file_raw)
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
    if data_file is not None or (data_file_raw is False and _is_raw(image)):
        image.at_rest(lambda: write_data_file(file, image.structure, data_file, raw=data_file_raw))
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


def _check_data_file(image: Qcow2Editor, name: str | None, raw: bool | None) -> None:
    header = image.structure.header
    if raw and not _is_raw(image):
        raise ArgumentError(
            "data_file_raw=on is for new images, whose data file is raw from the beginning; "
            "convert makes one ('qcow2crypt convert -o data_file=FILE,data_file_raw=on')"
        )
    if name is None:
        return
    if not header.incompatible_features & INCOMPAT_DATA_FILE:
        raise ArgumentError(
            f"'{image.name}' has no external data file, so there is no name to change; convert "
            "makes an image with one ('qcow2crypt convert -o data_file=FILE')"
        )
    itself = os.path.realpath(image.name)
    if name and itself in (os.path.realpath(name), os.path.realpath(path_beside(itself, name))):
        raise ArgumentError(f"'{name}' is the image itself: its data file is another file")


def _is_raw(image: Qcow2Editor) -> bool:
    return bool(image.structure.header.autoclear_features & AUTOCLEAR_RAW_DATA_FILE)


def _without_zero_flags(image: Qcow2Editor) -> None:
    """Let no entry have the zero flag, and the disk be the same."""
    if image.structure.header.compatible_features & COMPAT_LAZY_REFCOUNTS:
        image.at_rest(lambda: set_lazy_refcounts(image.host_file, image.structure, lazy=False))
    for extent in image.own_extents():
        if extent.kind is ExtentKind.ZERO:
            image.drop_zero_flags(extent.guest_offset, extent.length)
    image.forget_behind_end()
    image.flush()
