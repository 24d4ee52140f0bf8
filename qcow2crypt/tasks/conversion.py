"""Copy a guest disk from one image to a new one, in any direction between the formats.

Joins reading and writing: what is to be opened, what must not be overwritten, what a target keeps.
The copying itself is in ``filling``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from qcow2crypt.errors import ArgumentError, SourceError, UnsupportedFeatureError
from qcow2crypt.image import AS_IT_IS, open_image, open_layers
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.layers import layers_of
from qcow2crypt.image.names import LayerOptions, path_beside, stored_options
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.secrets import LayerSecret, secrets_by_layer
from qcow2crypt.output import Output
from qcow2crypt.pagecache import CacheMode, is_uncached
from qcow2crypt.secret import Secret
from qcow2crypt.targetdevice import open_target
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.creation import Target, TargetFormat, TargetOptions
from qcow2crypt.tasks.filling import Filler, Progress
from qcow2crypt.tasks.manner import USUAL, Manner
from qcow2crypt.tasks.sourcefiles import Watch, leave_cache, refuse_sources
from qcow2crypt.tasks.work import Work
from qcow2crypt.units import SECTOR_SIZE
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.reader import RawZeros, WrongIv
    from qcow2crypt.tasks.bitmapcopy import CopyBitmaps
    from qcow2crypt.tasks.refilling import Existing
    from qcow2crypt.tasks.salvaging import Loss, Salvager


class ConvertResult(NamedTuple):
    """What a conversion did.

    ``size``     bytes of the guest disk
    ``stored``   how many guest bytes were stored
    ``skipped_bitmaps``
                 names of bitmaps that were left out because they are inconsistent
    ``losses``   what could not be read of the source, and is zeros in the target
    """

    size: int
    stored: int
    skipped_bitmaps: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()


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
    raw_zeros: RawZeros = "decrypt",
    wrong_iv: WrongIv | None = None,
    threads: int | None = None,
    rate_limit: int | None = None,
    target_cache: CacheMode | None = None,
    source_cache: CacheMode = "writeback",
    bitmaps: CopyBitmaps | None = None,
    salvage: bool = False,
) -> ConvertResult:
    """Copy the guest disk of ``source``, as it is through all its backing files, to ``target``.

    ``secret`` opens the source, ``target_secret`` encrypts the target (``options`` must then say
    ``encryption="aes"``); ``secrets``, ``snapshot``, ``external``, ``force_share``, ``raw_zeros``
    and ``wrong_iv`` are those of ``open``, for the source.  Runs of zeros of ``sparse_size`` bytes
    or more are not stored; 0 stores all.  ``compress`` stores compressed clusters.  ``progress`` is
    called with guest bytes done and in all, some times in a second.  ``threads``, ``rate_limit``
    and the two caches say how it is done, see ``Manner``; the result is the same.  The source is
    only read.
    The target appears whole or not at all, and must not be a file of the source.

    ``bitmaps`` of ``"all"`` copies the dirty bitmaps of a qcow2 source to a qcow2 target, both of
    version 3: names, granularities, flags and bits as they are, in clear.  An inconsistent bitmap
    is an error then; ``"consistent"`` leaves such out and names them in the result.

    With ``salvage`` sectors of the source that cannot be read are zeros in the target, and the
    result names them; the source must still open.

    With a backing file in ``options`` only what differs from it is stored, in whole clusters.
    ``secrets`` opens it by file name, if it is not a layer of the source.

    With ``into_existing`` the target is an image that exists: its format must be
    ``target_format``, its size, options, snapshots, backing file and data file are kept
    (``options`` must be None), and what lies behind the end of a smaller source keeps its
    content.  ``target_secret`` opens it, ``secrets`` its backing files by file name, and
    ``external`` is the policy for these, too.

    Raises what ``open`` raises, and ArgumentError, SecretError, TargetError.
    """
    existing = None
    if into_existing:
        from qcow2crypt.tasks.refilling import Existing

        existing = Existing(external=external)
    with open_image(
        source,
        secret,
        format=source_format,
        engine=engine,
        snapshot=snapshot,
        secrets=secrets,
        external=external,
        force_share=force_share,
        raw_zeros=raw_zeros,
        wrong_iv=wrong_iv,
    ) as image:
        return convert_images(
            (image,),
            target,
            target_format=target_format,
            target_secret=target_secret,
            options=options,
            sparse_size=sparse_size,
            engine=engine,
            progress=progress,
            compress=compress,
            backing_secret=secrets_by_layer(None, secrets),
            existing=existing,
            watched=not force_share,
            manner=Manner(threads, rate_limit, target_cache, source_cache),
            bitmaps=bitmaps,
            salvage=salvage,
        )


def convert_images(
    images: Sequence[Image],
    target: Target,
    *,
    target_format: TargetFormat = "raw",
    target_secret: Secret = None,
    options: TargetOptions = None,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    engine: str | None = None,
    progress: Progress | None = None,
    compress: bool = False,
    backing_secret: LayerSecret | None = None,
    existing: Existing | None = None,
    manner: Manner = USUAL,
    watched: bool = True,
    bitmaps: CopyBitmaps | None = None,
    salvage: bool = False,
    resume: bool = False,
) -> ConvertResult:
    """As ``convert``, from images that are open: several become one disk, one after the other.

    ``backing_secret`` gives passphrases for backing files of the target.  With ``existing`` the
    target is there and keeps what it is.  ``watched``: a source that changes meanwhile is an error.

    With ``resume`` what an earlier call for the same target left is gone on with, and after an
    error the unfinished file and the journal stay, see ``left_over``.  The result is that of an
    uninterrupted conversion, byte for byte.  What cannot be gone on with is an ArgumentError;
    SourceError and TargetError say that what is left does not belong to this conversion.
    """
    if sparse_size < 0 or sparse_size % SECTOR_SIZE:
        raise ArgumentError(f"the sparse size is a multiple of 512, not {sparse_size}")
    if existing is not None and options is not None:
        raise ArgumentError("an existing target keeps its own options")
    size = sum(image.size for image in images)
    copied = None
    if bitmaps is not None:
        from qcow2crypt.tasks.bitmapcopy import bitmaps_to_copy

        copied = bitmaps_to_copy(images, bitmaps)
    if is_uncached(manner.source_cache):
        leave_cache(images)
    watch = Watch(images)
    salvager = _salvager() if salvage else None
    filler = Filler(sparse_size, progress, size, manner, salvager)
    with ExitStack() as stack:
        file = _open_target(target, options, filler, stack, resume=resume)
        refuse_sources(images, file)
        if existing is not None and _is_replaced(file, target_format):
            from dataclasses import replace

            from qcow2crypt.tasks.refilling import refill

            secret_for = backing_secret or secrets_by_layer(None, None)
            what = replace(existing, format=target_format, secret=target_secret, compress=compress)
            what = replace(what, bitmaps=copied)
            refill(filler, images, file, replace(what, engine=engine, secret_for=secret_for))
        else:
            if copied is not None:
                version = options.version if isinstance(options, Qcow2Options) else 3
                copied.check_target(target_format, version, size)
            backing = _backing(images, target, options, backing_secret, stack)
            work = Work(images, target_format, options, sparse_size, compress, copied, backing)
            writer = filler.begin(file, size, work, secret=target_secret, engine=engine)
            refuse_sources(images, *file.companions)
            if backing is None or not isinstance(options, Qcow2Options):
                filler.copy_all(images, writer)
            else:
                filler.copy_changes(images[0], writer, backing, options.cluster_size)
            writer.finish()
        if watched:
            _check(watch, filler)
        file.commit()
        filler.finish()
    skipped = copied.skipped if copied is not None else ()
    losses = salvager.losses() if salvager is not None else ()
    return ConvertResult(size, filler.stored, skipped, losses)


def _salvager() -> Salvager:
    from qcow2crypt.tasks.salvaging import Salvager

    return Salvager()


def _open_target(
    target: Target, options: TargetOptions, filler: Filler, stack: ExitStack, *, resume: bool
) -> Output:
    """The target until ``stack`` is left; with ``resume`` its journal goes to ``filler``."""
    if not resume:
        return stack.enter_context(open_target(target, cache=filler.manner.target_cache))
    from qcow2crypt.tasks.resuming import Resumed, kept_target

    kept = stack.enter_context(kept_target(target, options, filler.manner))
    filler.journal = stack.enter_context(Resumed(kept))
    return kept


def _check(watch: Watch, filler: Filler) -> None:
    try:
        watch.check()
    except SourceError:
        if filler.journal is not None:
            filler.journal.give_up()  # what is there is from before and from after
        raise


def _is_replaced(file: Output, target_format: TargetFormat) -> TypeGuard[TargetFile]:
    """Whether a target that exists is replaced; a raw device is written in place anyway."""
    if isinstance(file, TargetFile):
        return True
    if target_format != "raw":
        raise UnsupportedFeatureError(
            f"writing into the {target_format} image on a device",
            f"'{file.name}'; without -n (into_existing) a new image is made there",
        )
    return False


def _backing(
    images: Sequence[Image],
    target: Target,
    options: TargetOptions,
    secret_for: LayerSecret | None,
    stack: ExitStack,
) -> Image | None:
    """The disk of the target's backing file: a layer of the source, or opened for this."""
    if not isinstance(options, Qcow2Options) or options.backing_file is None:
        return None
    if len(images) > 1:
        raise ArgumentError(
            "a backing file for the target makes no sense with several sources: give one"
        )
    said = LayerOptions(format=options.backing_format).over(stored_options(options.backing_file))
    path = path_beside(os.fspath(target), said.path or "")
    try:
        status = os.stat(path)
    except OSError:
        status = None
    for layer in layers_of(images[0]):
        same = status is not None and layer.identity() == (status.st_dev, status.st_ino)
        if same and layer is not images[0] and layer.format == options.backing_format:
            return layer
    secret_for = secret_for or secrets_by_layer(None, None)
    return stack.enter_context(open_layers(path, secret_for, options=said, reading=AS_IT_IS))
