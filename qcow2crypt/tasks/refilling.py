"""Write guest disks into an image that exists, and keep what else it has.

The target appears whole or not at all here, too.  A simple image is written anew with its own
options, which leaves no unused clusters.  One with a backing file, a data file, snapshots or
bitmaps is copied, and the copy is changed in place; both are renamed over the target at the end.
What qemu-img does with zeros is kept: they are written, and their clusters are let go.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.image import Reading, open_layers
from qcow2crypt.image.base import Image
from qcow2crypt.image.chain import Layer
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.names import LayerOptions, path_beside, stored_options
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.bitmaps import bitmap_entries
from qcow2crypt.image.qcow2.edit.bitmapadding import check_names
from qcow2crypt.image.qcow2.extensions import EXT_NAMES
from qcow2crypt.image.qcow2.fresh.compressing import CompressingWriter
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.raw import RawImage
from qcow2crypt.image.secrets import LayerSecret, secrets_by_layer
from qcow2crypt.secret import Secret
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.bitmapcopy import BitmapsToCopy
from qcow2crypt.tasks.creation import DiskWriter, TargetFormat
from qcow2crypt.tasks.filling import Filler
from qcow2crypt.tasks.sourcefiles import files_of, refuse_sources
from qcow2crypt.tasks.work import Work
from qcow2crypt.units import GuestOffset, ReadBuffer

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor


@dataclass(frozen=True, slots=True)
class Existing:
    """What is said of a target that exists.

    ``options``     of its layers: names of files, formats
    ``external``    which files it may refer to
    ``backing``     name and format of the backing file that it is to have (``-B``): only what its
                    disk shows otherwise is then written.  The format may be None
    ``bitmaps``     those that it is to get from the source; None: it need not be able to have any
    ``format``, ``secret``, ``secret_for``, ``engine``, ``compress``
                    as for a new target; ``secret_for`` gives the passphrases of backing files
    """

    options: LayerOptions = field(default_factory=LayerOptions)
    external: External = DEFAULT
    backing: tuple[str, str | None] | None = None
    format: TargetFormat = "raw"
    secret: Secret = field(default=None, repr=False)
    secret_for: LayerSecret = field(default=secrets_by_layer(None, None), repr=False)
    engine: str | None = None
    compress: bool = False
    bitmaps: BitmapsToCopy | None = None


class _Job(NamedTuple):
    filler: Filler
    images: Sequence[Image]
    file: TargetFile
    what: Existing
    existing: Image


def refill(filler: Filler, images: Sequence[Image], file: TargetFile, what: Existing) -> None:
    """Make in ``file`` the image that is to replace the present one; ``commit`` is for the caller.

    Raises what opening the target raises, TargetError, ArgumentError, UnsupportedFeatureError.
    """
    secret = what.secret
    if callable(secret):
        # It opens the old image and encrypts the new one: nobody should be asked twice.
        secret = functools.cache(secret)
    file.lock()
    with closing(_open(file, what, secret)) as existing:
        if existing.size < filler.total:
            raise TargetError(
                f"'{file.name}' is too small: its disk has {existing.size} bytes, the source "
                f"{filler.total}. 'qcow2crypt resize' makes it larger"
            )
        if what.backing is not None:
            _check_backing(images, existing, *what.backing)
        _check_compression(existing, what)
        if what.bitmaps is not None:
            _check_bitmaps(existing, what.bitmaps)
        job = _Job(filler, images, file, what, existing)
        if not isinstance(existing, Qcow2Image):
            _write_anew(job, None, None)
        elif what.backing is None and _is_simple(existing):
            options = Qcow2Options.like(existing.structure.header)
            # QEMU ignores a passphrase for an image that is not encrypted; so do we.
            used = secret if options.encryption else None
            _write_anew(job, options, used)
        else:
            _change_copy(job, existing, secret)


def _open(file: TargetFile, what: Existing, secret: Secret) -> Image:
    """The target as it is, for reading."""

    def secret_for(layer: Layer) -> Secret:
        return what.secret_for(layer) if layer.depth else secret

    # The lock of the target is held already, for writing, and would exclude this reader.
    image = open_layers(
        file.name,
        secret_for,
        options=LayerOptions(format=what.format).over(what.options),
        reading=Reading(what.engine),
        external=what.external,
        force_share=True,
    )
    try:
        for file_below in files_of([image.backing] if image.backing else []):
            file_below.lock(writing=False)
    except BaseException:
        image.close()
        raise
    return image


def _is_simple(existing: Qcow2Image) -> bool:
    """True where an image with the same options can hold all that this one has."""
    structure = existing.structure
    return (
        not structure.header.nb_snapshots
        and structure.bitmaps is None
        and structure.backing_file is None
        and structure.data_file is None
        and existing.data_file is existing.host_file
        and all(extension.type in EXT_NAMES for extension in structure.extensions)
    )


def _check_compression(existing: Image, what: Existing) -> None:
    if not what.compress:
        return
    if not isinstance(existing, Qcow2Image):
        raise ArgumentError("a raw image cannot hold compressed clusters")
    if existing.encrypted:
        raise ArgumentError(
            f"compression and encryption are not supported at the same time: '{existing.name}' is "
            "encrypted, and compressed clusters would lie in it in clear; leave -c out"
        )
    if existing.data_file is not existing.host_file:
        raise ArgumentError(
            "compression and an external data file are not supported at the same time: leave -c out"
        )


def _check_bitmaps(existing: Image, copied: BitmapsToCopy) -> None:
    """Bitmaps must be able to go to the target.  Raises ArgumentError."""
    structure = existing.structure if isinstance(existing, Qcow2Image) else None
    version = structure.header.version if structure is not None else 0
    copied.check_target(existing.format, version, existing.size)
    if isinstance(existing, Qcow2Image):
        names = [entry.name for entry in bitmap_entries(existing.host_file, existing.structure)]
        check_names(existing.name, present_names=names, bitmaps=copied.bitmaps)


def _check_backing(
    images: Sequence[Image], existing: Image, name: str, backing_format: str | None
) -> None:
    """The target must have the backing file that was named: else it is not what is meant."""
    from pathlib import Path

    if len(images) > 1:
        raise ArgumentError(
            "a backing file for the target makes no sense with several sources: give one"
        )
    if existing.backing is None:
        raise ArgumentError(
            f"'{existing.name}' has no backing file, but '{name}' is named as its backing file; "
            "'rebase' gives it one"
        )
    path = path_beside(existing.name, stored_options(name).path or name)
    try:
        status = Path(path).stat()
        identity = (status.st_dev, status.st_ino)
    except OSError as error:
        raise ArgumentError(f"cannot look at the backing file '{path}': {error.strerror}") from None
    if existing.backing.identity() != identity:
        raise ArgumentError(
            f"the backing file of '{existing.name}' is '{existing.backing.name}', not '{path}'; "
            "'rebase' changes that"
        )
    if backing_format not in (None, existing.backing.format):
        raise ArgumentError(
            f"the backing file of '{existing.name}' is used as {existing.backing.format}, not "
            f"{backing_format}"
        )


def _write_anew(job: _Job, options: Qcow2Options | None, secret: Secret) -> None:
    """A new image with the options of the old one: the new content, then its own old rest."""
    filler, file, existing = job.filler, job.file, job.existing
    size = filler.total
    filler.total = existing.size
    work = Work(
        job.images,
        "raw" if options is None else "qcow2",
        options,
        filler.sparse_size,
        job.what.compress,
        job.what.bitmaps,
        rest=existing,
    )
    writer = filler.begin(file, existing.size, work, secret=secret, engine=job.what.engine)
    filler.copy_all(job.images, writer)
    filler.salvager = None  # the target itself must be sound
    filler.copy(existing, writer, max(size, filler.start))
    writer.finish()
    if isinstance(existing, RawImage) and size < existing.size:
        # Its last part sector was not written: as with qemu-img, it stays a part of one.
        file.truncate(existing.host_file.size)


def _change_copy(job: _Job, existing: Qcow2Image, secret: Secret) -> None:
    """Change a copy of the target, which keeps all that the format may have beside the disk."""
    from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor

    filler, file, what = job.filler, job.file, job.what
    if filler.journal is not None:
        raise ArgumentError(
            f"'{file.name}' has a backing file, a data file, snapshots or bitmaps: a copy of it is "
            "changed in place, and that cannot be gone on with after a kill. Leave out --resume "
            "(resume), or convert to a new image"
        )
    companion = None
    if existing.data_file is not existing.host_file:
        companion = file.with_companion(existing.data_file.name)
        refuse_sources(job.images, companion)
        companion.copy_old()
    file.copy_old()
    host = _part(file)
    data = None
    try:
        data = _part(companion) if companion is not None else None
        image = Qcow2Editor(
            host,
            secret=secret,
            engine=what.engine,
            backing=existing.backing,
            data_file=data,
            without_backing=existing.backing is None,
        )
    except BaseException:
        host.close()
        if data is not None:
            data.close()
        raise
    unit = image.structure.header.cluster_size
    with closing(image):
        writer = _writer(image, compress=what.compress, keep_zeros=not filler.sparse_size)
        if what.backing is not None:
            filler.copy_differences(job.images[0], writer, image, unit)
        else:
            if filler.sparse_size:
                # Less than a cluster cannot be left out of one.
                filler.sparse_size = max(filler.sparse_size, unit)
            between = _ZerosBetween(writer, image)
            filler.copy_all(job.images, between)
            between.clear(filler.total)
        writer.finish()
        if what.bitmaps is not None and what.bitmaps.bitmaps:
            image.add_bitmaps(what.bitmaps.bitmaps)


def _part(file: TargetFile) -> HostFile:
    host = HostFile(file.part, writable=True)
    host.name = file.name
    return host


def _writer(image: Qcow2Editor, *, compress: bool, keep_zeros: bool) -> DiskWriter:
    writer = _EditorWriter(image)
    if not compress:
        return writer
    options = Qcow2Options.like(image.structure.header)
    return CompressingWriter(writer, options, keep_zeros=keep_zeros, backing=image)


class _EditorWriter:
    """An open image as a ``DiskWriter``, and as what takes compressed clusters."""

    def __init__(self, image: Qcow2Editor) -> None:
        self._image = image
        self.size = image.size

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        self._image.pwrite(data, offset)

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        self._image.write_zeroes(offset, length, unmap=True)

    def write_compressed(self, offset: GuestOffset, stored: bytes) -> None:
        self._image.write_compressed(stored, offset)

    def finish(self) -> None:
        self._image.flush()


class _ZerosBetween:
    """Takes ascending writes; what lies between them becomes zeros, if it is not that yet."""

    def __init__(self, writer: DiskWriter, image: Qcow2Editor) -> None:
        self._writer = writer
        self._image = image
        self._end = 0

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        self.clear(offset)
        self._writer.write(offset, data)
        self._end = offset + memoryview(data).nbytes

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        self._writer.write_zeroes(offset, length)

    def finish(self) -> None:
        self._writer.finish()

    def clear(self, end: int) -> None:
        """Let all read as zeros from the last write up to ``end``."""
        while self._end < end:
            # Looked for anew after each change, which changes the map, too.
            extents = self._image.extents(self._end, end - self._end)
            extent = next((one for one in extents if not one.reads_as_zero), None)
            if extent is None:
                break
            self._writer.write_zeroes(extent.guest_offset, extent.length)
            self._end = extent.guest_offset + extent.length
        self._end = max(self._end, end)
