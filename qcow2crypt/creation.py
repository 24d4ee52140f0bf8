"""Make a new, empty image; and give ``convert`` the writer that fills one."""

from __future__ import annotations

import os
from typing import Literal, Protocol, TypeAlias

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.writer import Qcow2Writer
from qcow2crypt.image.raw import RawWriter
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, ReadBuffer

Target: TypeAlias = "str | os.PathLike[str]"
TargetFormat: TypeAlias = Literal["raw", "qcow2"]

_SIZE_MAX = 2**63 - SECTOR_SIZE


class DiskWriter(Protocol):
    """What a target format gives: ascending writes, then ``finish``."""

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store one run of guest data."""

    def finish(self) -> None:
        """Write what is left."""


def create(
    target: Target,
    size: int,
    *,
    format: TargetFormat = "qcow2",  # noqa: A002 - the word of qemu-img
    secret: Secret = None,
    options: Qcow2Options | None = None,
    engine: str | None = None,
) -> None:
    """Make an empty image of ``size`` bytes, rounded up to a whole sector.

    The target appears whole or not at all.  Raises ArgumentError, SecretError, TargetError.
    """
    if not 0 <= size <= _SIZE_MAX:
        raise ArgumentError(f"an image size is 0 to {_SIZE_MAX} bytes, not {size}")
    with TargetFile(target) as file:
        disk_writer(file, size, format, options, secret=secret, engine=engine).finish()
        file.commit()


def disk_writer(
    file: TargetFile,
    size: int,
    target_format: TargetFormat,
    options: Qcow2Options | None,
    *,
    secret: Secret,
    engine: str | None,
) -> DiskWriter:
    """The writer for a new image in ``file``.  Raises ArgumentError, SecretError."""
    encryption = options.encryption if options else None
    if secret is not None and encryption is None:
        raise ArgumentError(
            "a passphrase for the target was given, but not how to encrypt it: "
            "ask for it with Qcow2Options(encryption='aes') and target format qcow2"
        )
    if target_format == "raw":
        if options is not None:
            raise ArgumentError("qcow2 options were given, but the target format is raw")
        return RawWriter(file, size)
    if target_format != "qcow2":
        raise ArgumentError(f"target format {target_format!r} is not one of raw, qcow2")
    cipher = None
    if encryption is not None:
        passphrase = passphrase_bytes(secret, needed_for=f"the new image '{file.name}'")
        cipher = SectorCipher.from_passphrase(passphrase, engine=engine)
    return Qcow2Writer(file, size, options or Qcow2Options(), cipher)
