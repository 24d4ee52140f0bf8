"""Make a new, empty image; and give ``convert`` the writer that fills one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.chain import open_files
from qcow2crypt.image.names import JSON, LayerOptions, path_beside, protocol_of, stored_options
from qcow2crypt.image.placed import Placed, Run
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.rawoptions import RawOptions
from qcow2crypt.output import Output
from qcow2crypt.secret import Secret, passphrase_bytes
from qcow2crypt.targetdevice import TargetDevice, open_target
from qcow2crypt.units import SECTOR_SIZE, GuestOffset, ReadBuffer, align_up

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.bitmaps import StoredBitmap
    from qcow2crypt.image.qcow2.fresh.writer import Backing, Qcow2Writer
    from qcow2crypt.image.raw import RawWriter

Target: TypeAlias = "str | os.PathLike[str]"
TargetFormat: TypeAlias = Literal["raw", "qcow2"]
TargetOptions: TypeAlias = "Qcow2Options | RawOptions | None"

_SIZE_MAX = 2**63 - SECTOR_SIZE


class DiskWriter(Protocol):
    """What a target format gives: ascending writes, then ``finish``."""

    def write(self, offset: GuestOffset, data: ReadBuffer) -> None:
        """Store one run of guest data."""

    def write_zeroes(self, offset: GuestOffset, length: int) -> None:
        """Let a range read as zeros, where a backing file would show; else it costs nothing."""

    def finish(self) -> None:
        """Write what is left."""


class NewDiskWriter(DiskWriter, Protocol):
    """A writer of a new image, whose disk may turn out to be larger than was said."""

    def grow(self, size: int) -> None:
        """The disk has at least ``size`` bytes.  Called in turn, before what lies behind."""


AnyWriter = TypeVar("AnyWriter", bound=NewDiskWriter)


class Follow(Protocol):
    """Takes the writer of the file itself, before anything is written; gives what stands for it."""

    def __call__(self, writer: AnyWriter) -> AnyWriter:
        """What is written to the new image goes through that."""


@runtime_checkable
class PlacingWriter(DiskWriter, Protocol):
    """A writer that can decide where data goes first, in order, and take the bytes later."""

    at_guest_offsets: bool
    """Every byte has its place from the start, however the runs are cut."""

    def place(self, runs: Sequence[Run]) -> Placed:
        """Give ascending runs their places."""

    def put(self, placed: Placed, buffer: memoryview) -> None:
        """Store what has its place, from ``buffer``, which is changed; in any thread and order."""


def create(
    target: Target,
    size: int | None = None,
    *,
    format: TargetFormat = "qcow2",  # noqa: A002 - the word of qemu-img
    secret: Secret = None,
    options: TargetOptions = None,
    engine: str | None = None,
    open_backing: bool = True,
    external: External = DEFAULT,
) -> None:
    """Make an empty image of ``size`` bytes, rounded up to a whole sector.

    With a backing file in ``options`` the size may be left out: it is then that of the backing
    file.  The backing file is opened to see that it is there and of its format, unless
    ``open_backing`` is false; ``external`` is the policy for a data file that it names.  Its own
    name in the options is for the caller to choose and under no policy.  No passphrase for it
    is needed.

    The target appears whole or not at all; so does an external data file, just before it.
    Raises ArgumentError, SecretError, TargetError, and what opening the backing file raises.
    """
    if open_backing and isinstance(options, Qcow2Options) and options.backing_file is not None:
        found = backing_size(
            target, options.backing_file, options.backing_format, external=external
        )
        size = found if size is None else size
    if size is None:
        raise ArgumentError("a new image needs a size, or a backing file that is opened for it")
    if not 0 <= size <= _SIZE_MAX:
        raise ArgumentError(f"an image size is 0 to {_SIZE_MAX} bytes, not {size}")
    with open_target(target) as file:
        disk_writer(file, size, format, options, secret=secret, engine=engine).finish()
        file.commit()


def backing_size(
    target: Target, backing_file: str, backing_format: str | None, *, external: External = DEFAULT
) -> int:
    """The size of the disk of a backing file, by the name that ``target`` shall have for it.

    Looks at this one file, not at what lies under it.  Raises what opening raises.
    """
    _check_backing(target, backing_file, backing_format)
    said = stored_options(backing_file)
    options = LayerOptions(format=backing_format, no_backing=True).over(said)
    files = open_files(_backing_path(target, backing_file), options=options, external=external)
    try:
        layer = files.layers[0]
        if layer.structure is None:
            return align_up(layer.file.size, SECTOR_SIZE)
        return layer.structure.header.guest_size
    finally:
        files.close()


def disk_writer(
    file: Output,
    size: int,
    target_format: TargetFormat,
    options: TargetOptions,
    *,
    secret: Secret,
    engine: str | None,
    backing: Backing | None = None,
    compress: bool = False,
    keep_zeros: bool = False,
    bitmaps: Sequence[StoredBitmap] = (),
    follow: Follow | None = None,
) -> NewDiskWriter:
    """The writer for a new image in ``file``.

    ``backing`` is the disk of the backing file that the options name: it is needed when data is
    to be written.  ``compress`` stores compressed clusters; those of zeros too if ``keep_zeros``.
    ``bitmaps`` of a disk of this size are copied to a qcow2 image.  ``follow`` is given the writer.
    Raises ArgumentError, SecretError, TargetError.
    """
    qcow2 = options if isinstance(options, Qcow2Options) else None
    encryption = qcow2.encryption if qcow2 else None
    if secret is not None and encryption is None:
        raise ArgumentError(
            "a passphrase for the target was given, but not how to encrypt it: "
            "ask for it with Qcow2Options(encryption='aes') and target format qcow2"
        )
    if target_format == "raw":
        if compress:
            raise ArgumentError("a raw image cannot hold compressed clusters")
        raw = _raw_writer(file, size, options)
        return raw if follow is None else follow(raw)
    if target_format != "qcow2":
        raise ArgumentError(f"target format {target_format!r} is not one of raw, qcow2")
    if isinstance(options, RawOptions):
        raise ArgumentError("options for raw were given, but the target format is qcow2")
    options = options or Qcow2Options()
    if compress:
        _check_compression(options)
    writer = _qcow2_writer(file, size, options, backing, bitmaps, secret=secret, engine=engine)
    if follow is not None:
        writer = follow(writer)
    if compress:
        from qcow2crypt.image.qcow2.fresh.compressing import NewCompressingWriter

        return NewCompressingWriter(writer, options, keep_zeros=keep_zeros, backing=backing)
    return writer


def _raw_writer(file: Output, size: int, options: TargetOptions) -> RawWriter:
    from qcow2crypt.image.raw import RawWriter

    if isinstance(options, Qcow2Options):
        raise ArgumentError("qcow2 options were given, but the target format is raw")
    if options is not None and options.preallocation != "off":
        file.preallocate(0, align_up(size, SECTOR_SIZE), full=options.preallocation == "full")
    return RawWriter(file, size)


def _qcow2_writer(
    file: Output,
    size: int,
    options: Qcow2Options,
    backing: Backing | None,
    bitmaps: Sequence[StoredBitmap],
    *,
    secret: Secret,
    engine: str | None,
) -> Qcow2Writer:
    from qcow2crypt.image.qcow2.fresh.writer import Qcow2Writer

    if options.backing_file is not None:
        _check_backing(file.name, options.backing_file, options.backing_format)
    cipher = None
    if options.encryption is not None:
        passphrase = passphrase_bytes(secret, needed_for=f"the new image '{file.name}'")
        from qcow2crypt.crypt.cipher import SectorCipher

        cipher = SectorCipher.from_passphrase(passphrase, engine=engine)
    data = None
    if options.data_file is not None:
        data_path = _data_path(options.data_file)
        if options.backing_file is not None:
            backing_path = _backing_path(file.name, options.backing_file)
            if os.path.realpath(backing_path) == os.path.realpath(data_path):
                raise ArgumentError(f"the backing file cannot be the data file: '{data_path}'")
        data = file.with_companion(data_path)
    if isinstance(file, TargetDevice):
        if options.preallocates:
            raise ArgumentError("a device has its space already: leave preallocation out")
        # The old header goes first: what is cut short is no image.
        file.clear(0, min(file.size, options.cluster_size))
    return Qcow2Writer(
        file, size, options, cipher, data_target=data, backing=backing, bitmaps=bitmaps
    )


def _check_backing(target: Target, name: str, backing_format: str | None) -> None:
    if backing_format is None:
        raise ArgumentError(
            f"the backing file '{name}' is given without its format. It must be named: a guest "
            "could write a header of another format to a raw disk, and have other files opened"
        )
    if name.startswith(JSON):
        return
    if os.path.realpath(_backing_path(target, name)) == os.path.realpath(target):
        raise ArgumentError(f"an image cannot be its own backing file: '{name}'")


def _check_compression(options: Qcow2Options) -> None:
    excluded = {
        "encryption": options.encryption is not None,
        "preallocation": options.preallocates,
        "an external data file": options.data_file is not None,
    }
    for what, wanted in excluded.items():
        if wanted:
            raise ArgumentError(
                f"compression and {what} are not supported at the same time: leave one of them out"
            )


def _backing_path(target: Target, name: str) -> str:
    """Where a backing file lies: a relative name starts from the image."""
    path = stored_options(name).path or ""
    if name.startswith(JSON):
        return path
    return path_beside(os.fspath(target), path)


def _data_path(name: str) -> str:
    """Where a data file lies: a relative name starts from the current directory, as in QEMU."""
    if name.startswith(JSON) or protocol_of(name) is not None:
        raise ArgumentError(f"only a local file can be a new data file, not '{name}'")
    return name
