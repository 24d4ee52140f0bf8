"""Small chains of images, made by our own writers: overlays that name what they are told to."""

from __future__ import annotations

from pathlib import Path

import qcow2crypt
from qcow2crypt import Qcow2Options

SIZE = 256 << 10
CLUSTER = 4096
_FORMAT_EXTENSION = bytes.fromhex("e2792aca")


def overlay(
    path: Path,
    backing: str | None,
    *,
    backing_format: str | None = "qcow2",
    size: int = SIZE,
    secret: str | None = None,
    data_file: str | None = None,
) -> Path:
    """An empty qcow2 image with the backing file name ``backing``; nothing of it is opened.

    The name may be one that our own writer refuses, and ``backing_format`` None leaves the
    format out: both are put into the file afterwards.
    """
    placeholder = None if backing is None else "~" * len(backing.encode())
    options = Qcow2Options(
        cluster_size=CLUSTER,
        encryption="aes" if secret is not None else None,
        backing_file=placeholder,
        backing_format=(backing_format or "raw") if backing is not None else None,
        data_file=data_file,
    )
    qcow2crypt.create(path, size, secret=secret, options=options, open_backing=False)
    if backing is not None and placeholder is not None:
        data = path.read_bytes().replace(placeholder.encode(), backing.encode(), 1)
        if backing_format is None:
            data = data.replace(_FORMAT_EXTENSION, b"none", 1)
        path.write_bytes(data)
    return path


def fill(path: Path, offset: int, data: bytes, **how: object) -> Path:
    """Write guest bytes to an image in place; ``how`` goes to ``open``."""
    with qcow2crypt.open(path, mode="r+", **how) as image:  # type: ignore[arg-type]
        image.pwrite(data, offset)
    return path


def raw(path: Path, data: bytes) -> Path:
    """A raw image."""
    path.write_bytes(data)
    return path


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
