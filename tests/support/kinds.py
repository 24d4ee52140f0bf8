"""The kinds of images that can be read and written, and a disk to put into them."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import qcow2crypt
from qcow2crypt.image.qcow2.options import Qcow2Options

MIB = 1 << 20
AES = Qcow2Options(encryption="aes", cluster_size=4096)
OLD, NEW = "the old passphrase", "the new one"

# How a kind of image is opened or made: format, options, passphrase.
KINDS: dict[str, tuple[Any, Qcow2Options | None]] = {
    "raw": ("raw", None),
    "plain": ("qcow2", Qcow2Options(cluster_size=65536)),
    "plain v2": ("qcow2", Qcow2Options(cluster_size=512, version=2)),
    "aes": ("qcow2", AES),
    "aes v2": ("qcow2", Qcow2Options(encryption="aes", cluster_size=512, version=2)),
}


def content(pattern: str) -> bytes:
    """A disk of units of 16 KiB: x is data, a dot is zeros."""
    noise = random.Random(pattern)
    return b"".join(noise.randbytes(16384) if c == "x" else bytes(16384) for c in pattern)


DISK = content("x..xx....x.") + b"tail" * 128


def secret_of(kind: str, passphrase: str) -> str | None:
    return passphrase if kind.startswith("aes") else None


def make(path: Path, kind: str, disk: bytes, passphrase: str = OLD) -> Path:
    """An image of a kind that holds ``disk``."""
    format_name, options = KINDS[kind]
    qcow2crypt.convert(
        io.BytesIO(disk),
        path,
        source_format="raw",
        target_format=format_name,
        target_secret=secret_of(kind, passphrase),
        options=options,
    )
    return path


def disk_of(path: Path, kind: str, passphrase: str = OLD) -> bytes:
    with qcow2crypt.open(path, secret=secret_of(kind, passphrase), format=KINDS[kind][0]) as image:
        return image.readall()
