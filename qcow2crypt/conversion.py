"""Copy a guest disk from one image to a new one, in any direction between the formats.

Joins reading and writing through their smallest faces: extents and guest bytes on one side,
ascending writes on the other.  Memory stays bounded: one piece of at most 2 MiB at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qcow2crypt.creation import DiskWriter, Target, TargetFormat, disk_writer
from qcow2crypt.errors import ArgumentError, TargetError, UnsupportedFeatureError
from qcow2crypt.image import open_image
from qcow2crypt.image.base import Extent, Image
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.secret import Secret
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, align_down
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE, data_runs

Progress: TypeAlias = Callable[[int, int], None]

_PIECE = 2 << 20
"""qemu-img reads so much at a time; where its requests begin decides where clusters go."""


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a conversion did: the guest size, and how many guest bytes were stored."""

    size: int
    stored: int


def convert(
    source: Source,
    target: Target,
    *,
    source_format: str | None = None,
    target_format: TargetFormat = "raw",
    secret: Secret = None,
    target_secret: Secret = None,
    options: Qcow2Options | None = None,
    into_existing: bool = False,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Copy the guest disk of ``source`` to an image ``target``.

    ``secret`` opens the source, ``target_secret`` encrypts the target (``options`` must then
    say ``encryption="aes"``).  Runs of zeros of ``sparse_size`` bytes or more are not stored; 0
    stores all.  ``progress`` is called with guest bytes done and in all.  The source is only
    read.  The target appears whole or not at all, and must not be the source.

    With ``into_existing`` the target is an image that exists: its format must be
    ``target_format``, its size and options are kept (``options`` must be None), and what lies
    behind the end of a smaller source keeps its content.  ``target_secret`` opens it.

    Raises what ``open`` raises, and ArgumentError, SecretError, TargetError.
    """
    if sparse_size < 0 or sparse_size % SECTOR_SIZE:
        raise ArgumentError(f"the sparse size is a multiple of 512, not {sparse_size}")
    with (
        open_image(source, secret=secret, format=source_format, engine=engine) as image,
        TargetFile(target) as file,
    ):
        identity = file.identity()
        if identity is not None and identity == image.identity():
            raise TargetError(
                f"source and target are the same file: '{file.name}'. Give the target another name"
            )
        copy = _Copy(sparse_size, progress, image.size)
        if into_existing:
            if options is not None:
                raise ArgumentError("an existing target keeps its own options")
            if callable(target_secret):
                # It opens the old image and encrypts the new one: nobody should be asked twice.
                target_secret = functools.cache(target_secret)
            with open_image(
                target, secret=target_secret, format=target_format, engine=engine
            ) as existing:
                _fill_existing(copy, image, existing, file, secret=target_secret, engine=engine)
        else:
            writer = disk_writer(
                file, image.size, target_format, options, secret=target_secret, engine=engine
            )
            copy.run(image, writer, 0)
            writer.finish()
        file.commit()
        return ConvertResult(image.size, copy.stored)


def _fill_existing(
    copy: _Copy,
    image: Image,
    existing: Image,
    file: TargetFile,
    *,
    secret: Secret,
    engine: str | None,
) -> None:
    """Write a file that is to replace ``existing``: the new content, then its own old rest."""
    if existing.size < image.size:
        raise TargetError(
            f"'{file.name}' is too small: its disk has {existing.size} bytes, "
            f"the source {image.size}"
        )
    copy.total = existing.size
    if isinstance(existing, Qcow2Image):
        options = _options_of(existing)
        # QEMU ignores a passphrase for an image that is not encrypted; so do we.
        secret = secret if options.encryption else None
        writer = disk_writer(file, existing.size, "qcow2", options, secret=secret, engine=engine)
    else:
        writer = disk_writer(file, existing.size, "raw", None, secret=None, engine=engine)
    copy.run(image, writer, 0)
    copy.run(existing, writer, image.size)
    writer.finish()


def _options_of(existing: Qcow2Image) -> Qcow2Options:
    """The options that make an image like this one.  Refuses what would be lost."""
    structure = existing.structure
    header = structure.header
    if header.nb_snapshots or structure.bitmaps:
        what = "snapshots" if header.nb_snapshots else "bitmaps"
        raise UnsupportedFeatureError(
            f"writing into an image that has {what}", f"'{existing.name}'; make a new target"
        )
    return Qcow2Options.like(header)


class _Copy:
    """One copying job: what is the same for every range that it copies."""

    def __init__(self, sparse_size: int, progress: Progress | None, total: int) -> None:
        self._sparse_size = sparse_size
        self._progress = progress
        self.total = total
        self.stored = 0

    def run(self, image: Image, writer: DiskWriter, start: int) -> None:
        """Copy ``image`` from ``start`` to its end, to the same guest offsets."""
        buffer = bytearray()
        self._tell(start)
        for offset, length, zero in self._pieces(image, start):
            if not zero:
                if len(buffer) != length:
                    buffer = bytearray(length)
                image.preadinto(buffer, offset)
                with memoryview(buffer) as view:
                    for first, end in data_runs(buffer, offset, self._sparse_size):
                        writer.write(GuestOffset(offset + first), view[first:end])
                        self.stored += end - first
            self._tell(offset + length)

    def _pieces(self, image: Image, start: int) -> Iterator[tuple[GuestOffset, int, bool]]:
        """Ranges of at most one piece, and whether to skip them because they read as zeros."""
        for extent in image.extents(start):
            if extent.reads_as_zero and self._sparse_size:
                yield extent.guest_offset, extent.length, True
                continue
            for first, end in _requests(image, extent):
                for offset in range(first, end, _PIECE):
                    yield GuestOffset(offset), min(_PIECE, end - offset), False

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress(done, self.total)


def _requests(image: Image, extent: Extent) -> Iterator[tuple[int, int]]:
    """Cut an extent where qemu-img begins anew: its zeros and clusters are found per request.

    In a qcow2 source that is where an L2 table ends, and before a last part cluster.
    """
    start: int = extent.guest_offset
    end = start + extent.length
    if not isinstance(image, Qcow2Image):
        yield start, end
        return
    header = image.structure.header
    reach = header.l2_coverage
    whole_clusters = align_down(image.size, header.cluster_size)
    while start < end:
        stop = min(align_down(start, reach) + reach, end)
        if start < whole_clusters < stop:
            stop = whole_clusters
        yield start, stop
        start = stop
