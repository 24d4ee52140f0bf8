"""Copy a guest disk from one image to a new one, in any direction between the formats.

Joins reading and writing: what is to be opened, what must not be overwritten, what a target keeps.
The copying itself is in ``filling``.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from qcow2crypt.creation import DiskWriter, Target, TargetFormat, TargetOptions, disk_writer
from qcow2crypt.errors import ArgumentError, TargetError, UnsupportedFeatureError
from qcow2crypt.filling import Filler, Progress
from qcow2crypt.image import AS_IT_IS, open_image, open_layers
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.names import LayerOptions, path_beside, stored_options
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.raw import RawImage
from qcow2crypt.image.secrets import LayerSecret, secrets_by_layer
from qcow2crypt.secret import Secret
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.units import SECTOR_SIZE
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE


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
    options: TargetOptions = None,
    into_existing: bool = False,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
    snapshot: str | None = None,
    secrets: Mapping[str | int, Secret] | None = None,
    external: External = DEFAULT,
    force_share: bool = False,
    compress: bool = False,
) -> ConvertResult:
    """Copy the guest disk of ``source``, as it is through all its backing files, to ``target``.

    ``secret`` opens the source, ``target_secret`` encrypts the target (``options`` must then
    say ``encryption="aes"``); ``secrets``, ``snapshot``, ``external`` and ``force_share`` are
    those of ``open``, for the source.  Runs of zeros of ``sparse_size`` bytes or more are not
    stored; 0 stores all.  ``compress`` stores compressed clusters.  ``progress`` is called with
    guest bytes done and in all.  The source is only read.  The target appears whole or not at
    all, and must not be a file of the source.

    With a backing file in ``options`` only what differs from it is stored, in whole clusters.
    ``secrets`` opens it by file name, if it is not a layer of the source.

    With ``into_existing`` the target is an image that exists: its format must be
    ``target_format``, its size and options are kept (``options`` must be None), and what lies
    behind the end of a smaller source keeps its content.  ``target_secret`` opens it.

    Raises what ``open`` raises, and ArgumentError, SecretError, TargetError.
    """
    with open_image(
        source,
        secret,
        format=source_format,
        engine=engine,
        snapshot=snapshot,
        secrets=secrets,
        external=external,
        force_share=force_share,
    ) as image:
        return convert_images(
            (image,),
            target,
            target_format=target_format,
            target_secret=target_secret,
            options=options,
            into_existing=into_existing,
            sparse_size=sparse_size,
            engine=engine,
            progress=progress,
            compress=compress,
            backing_secret=secrets_by_layer(None, secrets),
        )


def convert_images(
    images: Sequence[Image],
    target: Target,
    *,
    target_format: TargetFormat = "raw",
    target_secret: Secret = None,
    options: TargetOptions = None,
    into_existing: bool = False,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
    compress: bool = False,
    backing_secret: LayerSecret | None = None,
) -> ConvertResult:
    """As ``convert``, from images that are open: several become one disk, one after the other.

    ``backing_secret`` gives passphrases for a backing file of the target.
    """
    if sparse_size < 0 or sparse_size % SECTOR_SIZE:
        raise ArgumentError(f"the sparse size is a multiple of 512, not {sparse_size}")
    if into_existing and (options is not None or compress):
        raise ArgumentError("an existing target keeps its own options, and is not compressed")
    size = sum(image.size for image in images)
    filler = Filler(sparse_size, progress, size)
    with ExitStack() as stack:
        file = stack.enter_context(TargetFile(target))
        for image in images:
            _refuse_source(image, file)
        if into_existing:
            existing, secret = _open_existing(target, file, target_format, target_secret, engine)
            stack.enter_context(existing)
            _fill_existing(filler, images, existing, file, secret=secret, engine=engine)
        else:
            backing = None
            if isinstance(options, Qcow2Options) and options.backing_file is not None:
                secret_for = backing_secret or secrets_by_layer(None, None)
                backing = _backing(images, target, options, secret_for, stack)
            writer = disk_writer(
                file,
                size,
                target_format,
                options,
                secret=target_secret,
                engine=engine,
                backing=backing,
                compress=compress,
                keep_zeros=not sparse_size,
            )
            for image, companion in itertools.product(images, file.companions):
                _refuse_source(image, companion)
            if backing is None or not isinstance(options, Qcow2Options):
                _copy_all(filler, images, writer)
            else:
                filler.copy_changes(images[0], writer, backing, options.cluster_size)
            writer.finish()
        file.commit()
    return ConvertResult(size, filler.stored)


def _copy_all(filler: Filler, images: Sequence[Image], writer: DiskWriter) -> None:
    end = 0
    for image in images:
        filler.copy(image, writer, to=end)
        end += image.size


def _layers(image: Image) -> Iterator[Image]:
    layer: Image | None = image
    while layer is not None:
        yield layer
        layer = layer.backing


def _refuse_source(image: Image, file: TargetFile) -> None:
    """No file that is read may be replaced.  Raises TargetError."""
    identity = file.identity()
    if identity is None:
        return
    for layer in _layers(image):
        if layer.identity() == identity:
            what = "source and target are" if layer is image else "backing file and target are"
            raise TargetError(f"{what} the same file: '{file.name}'. Give the target another name")
        if isinstance(layer, Qcow2Image) and layer.data_file.identity() == identity:
            raise TargetError(
                f"the target '{file.name}' is the data file of '{layer.name}'. Give the target "
                "another name"
            )


def _backing(
    images: Sequence[Image],
    target: Target,
    options: Qcow2Options,
    secret_for: LayerSecret,
    stack: ExitStack,
) -> Image:
    """The disk of the target's backing file: a layer of the source, or opened for this."""
    if len(images) > 1:
        raise ArgumentError(
            "a backing file for the target makes no sense with several sources: give one"
        )
    said = LayerOptions(format=options.backing_format).over(
        stored_options(options.backing_file or "")
    )
    path = path_beside(os.fspath(target), said.path or "")
    try:
        status = os.stat(path)
    except OSError:
        status = None
    for layer in _layers(images[0]):
        same = status is not None and layer.identity() == (status.st_dev, status.st_ino)
        if same and layer is not images[0] and layer.format == options.backing_format:
            return layer
    return stack.enter_context(open_layers(path, secret_for, options=said, reading=AS_IT_IS))


def _open_existing(
    target: Target,
    file: TargetFile,
    target_format: TargetFormat,
    secret: Secret,
    engine: str | None,
) -> tuple[Image, Secret]:
    if callable(secret):
        # It opens the old image and encrypts the new one: nobody should be asked twice.
        secret = functools.cache(secret)
    file.lock()
    # The lock of the target is held already, for writing, and would exclude this reader.
    image = open_image(target, secret=secret, format=target_format, engine=engine, force_share=True)
    return image, secret


def _fill_existing(
    filler: Filler,
    images: Sequence[Image],
    existing: Image,
    file: TargetFile,
    *,
    secret: Secret,
    engine: str | None,
) -> None:
    """Write a file that is to replace ``existing``: the new content, then its own old rest."""
    size = filler.total
    if existing.size < size:
        raise TargetError(
            f"'{file.name}' is too small: its disk has {existing.size} bytes, the source {size}"
        )
    filler.total = existing.size
    options: Qcow2Options | None = None
    if isinstance(existing, Qcow2Image):
        options = _options_of(existing)
    # QEMU ignores a passphrase for an image that is not encrypted; so do we.
    secret = secret if options is not None and options.encryption else None
    target_format: TargetFormat = "raw" if options is None else "qcow2"
    writer = disk_writer(file, existing.size, target_format, options, secret=secret, engine=engine)
    _copy_all(filler, images, writer)
    filler.copy(existing, writer, size)
    writer.finish()
    if isinstance(existing, RawImage) and size < existing.size:
        # Its last part sector was not written: as with qemu-img, it stays a part of one.
        file.truncate(existing.host_file.size)


def _options_of(existing: Qcow2Image) -> Qcow2Options:
    """The options that make an image like this one.  Refuses what would be lost."""
    structure = existing.structure
    header = structure.header
    lost = {
        "snapshots": bool(header.nb_snapshots),
        "bitmaps": structure.bitmaps is not None,
        "a backing file": structure.backing_file is not None,
        "an external data file": structure.data_file is not None,
    }
    for what, present in lost.items():
        if present:
            raise UnsupportedFeatureError(
                f"writing into an image that has {what}", f"'{existing.name}'; make a new target"
            )
    return Qcow2Options.like(header)
