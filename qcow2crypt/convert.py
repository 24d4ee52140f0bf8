"""Make images: a new empty one, or one from another, in any direction between the formats.

Joins reading and writing through their smallest faces: extents and guest bytes on one side,
ascending writes on the other.  Memory stays bounded: one piece of at most 2 MiB at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.image import open_image
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.writer import Qcow2Writer
from qcow2crypt.image.raw import RawWriter
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, ReadBuffer
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE, data_runs

Target: TypeAlias = "str | os.PathLike[str]"
TargetFormat: TypeAlias = Literal["raw", "qcow2"]
Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20
"""qemu-img reads so much at a time; where its requests begin decides where clusters go."""
_SIZE_MAX = 2**63 - SECTOR_SIZE


class DiskWriter(Protocol):
    """What a target format gives: ascending writes, then ``finish``."""

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store one run of guest data."""

    def finish(self) -> None:
        """Write what is left."""


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a conversion did: the guest size, and how many guest bytes were stored."""

    size: int
    stored: int


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
    with TargetFile(target) as file:
        _writer(file, _checked_size(size), format, options, secret, engine).finish()
        file.commit()


def convert(
    source: Source,
    target: Target,
    *,
    source_format: str | None = None,
    target_format: TargetFormat = "raw",
    secret: Secret = None,
    target_secret: Secret = None,
    options: Qcow2Options | None = None,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Copy the guest disk of ``source`` to a new image ``target``.

    ``secret`` opens the source, ``target_secret`` encrypts the target (``options`` must then
    say ``encryption="aes"``).  Runs of zeros of ``sparse_size`` bytes or more are not stored; 0
    stores all.  ``progress`` is called with guest bytes done and in all.  The source is only
    read.  The target appears whole or not at all, and must not be the source.

    Raises what ``open`` raises, and ArgumentError, SecretError, TargetError.
    """
    if sparse_size < 0 or sparse_size % SECTOR_SIZE:
        raise ArgumentError(f"the sparse size is a multiple of 512, not {sparse_size}")
    with (
        open_image(source, secret=secret, format=source_format, engine=engine) as image,
        TargetFile(target) as file,
    ):
        _refuse_same_file(image, file)
        writer = _writer(file, image.size, target_format, options, target_secret, engine)
        stored = _copy(image, writer, sparse_size, progress)
        writer.finish()
        file.commit()
        return ConvertResult(image.size, stored)


def _copy(image: Image, writer: DiskWriter, sparse_size: int, progress: Progress | None) -> int:
    stored = 0
    buffer = bytearray()
    if progress:
        progress(0, image.size)
    for offset, length, zero in _pieces(image, keep_zeros=not sparse_size):
        if not zero:
            if len(buffer) != length:
                buffer = bytearray(length)
            image.preadinto(buffer, offset)
            view = memoryview(buffer)
            for start, end in data_runs(buffer, offset, sparse_size):
                writer.write(GuestOffset(offset + start), view[start:end])
                stored += end - start
            view.release()
        if progress:
            progress(offset + length, image.size)
    return stored


def _pieces(image: Image, *, keep_zeros: bool) -> Iterator[tuple[GuestOffset, int, bool]]:
    """Guest ranges of at most one piece, and whether to skip them because they read as zeros."""
    for extent in image.extents():
        if extent.reads_as_zero and not keep_zeros:
            yield extent.guest_offset, extent.length, True
            continue
        end = extent.guest_offset + extent.length
        for offset in range(extent.guest_offset, end, _PIECE):
            yield GuestOffset(offset), min(_PIECE, end - offset), False


def _writer(
    file: TargetFile,
    size: int,
    target_format: TargetFormat,
    options: Qcow2Options | None,
    secret: Secret,
    engine: str | None,
) -> DiskWriter:
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


def _checked_size(size: int) -> int:
    if not 0 <= size <= _SIZE_MAX:
        raise ArgumentError(f"an image size is 0 to {_SIZE_MAX} bytes, not {size}")
    return size


def _refuse_same_file(image: Image, file: TargetFile) -> None:
    identity = file.identity()
    if identity is not None and identity == image.identity():
        raise TargetError(
            f"source and target are the same file: '{file.name}'. Give the target another name"
        )
