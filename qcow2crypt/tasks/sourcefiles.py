"""The files under the images that a task reads: which they are, and whether they stay the same."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from qcow2crypt.errors import SourceError, TargetError
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.layers import layers_of
from qcow2crypt.output import Output

Stamp: TypeAlias = "tuple[str, int, int, int, int | None] | None"
"""Name, device, inode, size, and the time of the last change in nanoseconds: None for a device.
None in place of all for a file object: nothing is known of it."""


def files_of(images: Sequence[Image]) -> Iterator[HostFile]:
    """Every file that is read for the guest disks of ``images``."""
    for layer in itertools.chain.from_iterable(map(layers_of, images)):
        yield from layer.host_files()


def leave_cache(images: Sequence[Image]) -> None:
    """Let what is read of the images and all that is under them leave the page cache."""
    for file in files_of(images):
        file.leave_cache()


def refuse_sources(images: Sequence[Image], *files: Output) -> None:
    """No file that is read may be replaced.  Raises TargetError."""
    for image, file in itertools.product(images, files):
        _refuse_source(image, file)


def _refuse_source(image: Image, file: Output) -> None:
    identity = file.identity()
    if identity is None:
        return
    for layer in layers_of(image):
        if layer.identity() == identity:
            what = "source and target are" if layer is image else "backing file and target are"
            raise TargetError(f"{what} the same file: '{file.name}'. Give the target another name")
        if any(data.identity() == identity for data in layer.host_files()[1:]):
            raise TargetError(
                f"the target '{file.name}' is the data file of '{layer.name}'. Give the target "
                "another name"
            )


def stamp(file: HostFile) -> Stamp:
    """What tells a file that was not changed since.  Raises SourceError."""
    if file.fd is None:
        return None
    try:
        status = os.fstat(file.fd)
    except OSError as error:
        raise SourceError(f"cannot look at '{file.name}': {error.strerror}") from error
    changed = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None
    return (file.name, status.st_dev, status.st_ino, status.st_size, changed)


def writes_to(file: HostFile) -> tuple[int, ...] | None:
    """How much was written to a block device since the system started, by anyone.

    None for other files, and where the system does not tell.  What stands in its cache is brought
    to the device first, so that what was written earlier is not counted later.  Source: Linux,
    Documentation/block/stat.rst: sectors written and discarded (the writes also count syncs).
    """
    if file.fd is None:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = os.fstat(file.fd)
        if stat.S_ISBLK(status.st_mode):
            from pathlib import Path  # takes milliseconds to load

            with contextlib.suppress(OSError):
                os.fsync(file.fd)
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            words = Path(f"/sys/dev/block/{number}/stat").read_text(encoding="ascii").split()
            return tuple(int(word) for word in (words[6], *words[13:14]))
    return None


class Watch:
    """Notices that a file under ``images`` is changed while they are read."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._seen = [(file, stamp(file), writes_to(file)) for file in files_of(images)]

    def check(self) -> None:
        """Raises SourceError if one was changed since this object was made."""
        for file, before, written in self._seen:
            if stamp(file) != before or writes_to(file) != written:
                raise SourceError(
                    f"'{file.name}' was changed while it was read: a part of the copy is from "
                    "before and a part from after. Stop what writes to it and begin again, or "
                    "say that this does not matter with --force-share (force_share=True)"
                )
