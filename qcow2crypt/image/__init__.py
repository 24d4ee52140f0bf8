"""Images: open one, whatever its format, with everything under it.

``open_image`` is the only door.  An explicit format wins; else the first bytes decide, and raw
is what is left.  A format that is known but not read is refused by name, never taken for raw.
The reader of a format, and all that can write, is imported when an image needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.errors import ArgumentError, ReadOnlyError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.chain import ChainFiles, Layer, Place, open_files
from qcow2crypt.image.hostfile import Source
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.policy import DEFAULT, External
from qcow2crypt.image.qcow2.header import INCOMPAT_CORRUPT
from qcow2crypt.image.qcow2.structure import Structure
from qcow2crypt.image.secrets import LayerSecret, ask_all, secrets_by_layer
from qcow2crypt.secret import Secret

if TYPE_CHECKING:
    from qcow2crypt.image.qcow2.reader import RawZeros, WrongIv


def open_image(
    source: Source,
    secret: Secret = None,
    mode: str = "r",
    *,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    engine: str | None = None,
    snapshot: str | None = None,
    external: External = DEFAULT,
    secrets: Mapping[str | int, Secret] | None = None,
    force_share: bool = False,
    raw_zeros: RawZeros = "decrypt",
    wrong_iv: WrongIv | None = None,
) -> Image:
    """Open a guest disk: a path, or a binary file object that can seek.

    ``secret`` is the passphrase of the image itself: str or bytes, or a callable that gives one
    and is called once, if it is needed.  ``secrets`` has those of other layers of the chain, by
    file name (as stored, as a path, or its last part) or by depth: 1 is the backing file, 2 the
    one under that.  No layer is tried with the passphrase of another.

    ``mode`` is "r", or "r+" to write too; backing files are only read.  ``format`` is "qcow2",
    "qcow", "raw" or None to look at the first bytes.  ``snapshot`` opens the disk at the time of
    an internal snapshot, by id or name, for reading.  ``external`` says which other files the
    image may refer to: "beneath" its own directory, "any", or "none".  ``force_share`` reads an
    image that another program writes to.  ``raw_zeros`` and ``wrong_iv`` are for AES images that
    QEMU spoiled, see ``Qcow2Image``.

    Raises SourceError, FormatError, UnsupportedFeatureError, SecretRequiredError, SecretError,
    ExternalReferenceError, BackingChainError, ImageLockedError, ReadOnlyError,
    SnapshotNotFoundError, EngineUnavailableError, and ArgumentError.
    """
    return open_layers(
        source,
        secrets_by_layer(secret, secrets),
        mode,
        options=LayerOptions(format=format),
        reading=Reading(engine, raw_zeros, wrong_iv),
        snapshot=snapshot,
        external=external,
        force_share=force_share,
    )


class Reading(NamedTuple):
    """How guest bytes are made of host bytes, in every layer: engine, and what QEMU spoiled."""

    engine: str | None = None
    raw_zeros: RawZeros = "decrypt"
    wrong_iv: WrongIv | None = None


AS_IT_IS = Reading()


def open_layers(
    source: Source,
    secret_for: LayerSecret,
    mode: str = "r",
    *,
    options: LayerOptions,
    reading: Reading = AS_IT_IS,
    snapshot: str | None = None,
    external: External = DEFAULT,
    force_share: bool = False,
    writes: Callable[[Place], bool] | None = None,
) -> Image:
    """As ``open_image``, with options and passphrases for every layer.

    ``writes`` tells which backing files are opened for writing, too.
    """
    writable = _writes(mode, snapshot)
    if writable and (reading.raw_zeros != "decrypt" or reading.wrong_iv is not None):
        raise ArgumentError("raw_zeros and wrong_iv are for reading: convert the image first")
    files = open_files(
        source,
        options=options,
        external=external,
        writable=writable,
        writes=writes,
        force_share=force_share,
    )
    try:
        for layer in files.layers:
            _check_readable(layer)
            if layer.file.writable:
                _check_writable(layer)
        image = _build(files, ask_all(files, secret_for), reading)
        return image if snapshot is None else _snapshot(image, snapshot)
    except BaseException:
        files.close()
        raise


def _writes(mode: str, snapshot: str | None) -> bool:
    if mode not in ("r", "rb", "r+", "r+b", "rb+"):
        raise ArgumentError(f"mode is 'r' or 'r+', not {mode!r}; 'create' makes a new image")
    if "+" in mode and snapshot is not None:
        raise ArgumentError("a snapshot can only be read: leave mode='r+' or snapshot out")
    return "+" in mode


def _check_readable(layer: Layer) -> None:
    """Say what cannot be read before anyone is asked for a passphrase."""
    structure = layer.structure
    if isinstance(structure, Structure) and (reasons := structure.why_unreadable()):
        raise UnsupportedFeatureError(
            "; ".join(reasons),
            f"in '{layer.file.name}'; 'qcow2crypt info' describes the image",
        )
    check_encrypt_format(layer)


def check_encrypt_format(layer: Layer) -> None:
    """Compare the encryption that a person named with that of the header.  Raises ArgumentError."""
    structure = layer.structure
    wanted = layer.options.encrypt_format
    found = None
    if structure is not None:
        found = (None, "aes", "luks")[structure.header.crypt_method]
    if wanted not in (None, found):
        header = "is not encrypted" if found is None else f"is encrypted as '{found}'"
        raise ArgumentError(f"'{layer.file.name}' {header}, but encrypt.format={wanted} is given")


def _check_writable(layer: Layer) -> None:
    structure = layer.structure
    if layer.format == "qcow":
        raise ReadOnlyError(f"'{layer.file.name}' is of qcow version 1, which is only read")
    if isinstance(structure, Structure) and (
        structure.header.incompatible_features & INCOMPAT_CORRUPT
    ):
        raise ReadOnlyError(
            f"'{layer.file.name}' is marked as corrupt and opens for reading only; "
            "'check -r all' repairs what can be repaired"
        )


def _snapshot(image: Image, id_or_name: str) -> Image:
    from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot

    view = image.snapshot(id_or_name)
    if isinstance(view, Qcow2Snapshot):
        view.owned = image
    return view


def _build(files: ChainFiles, passphrases: dict[int, bytes], reading: Reading) -> Image:
    """Make the images from the lowest layer upwards."""
    image: Image | None = None
    for layer in reversed(files.layers):
        image = _image(layer, passphrases.get(layer.depth), image, reading)
    assert image is not None  # noqa: S101 - there is always a first layer; this is for mypy
    return image


def _image(layer: Layer, secret: bytes | None, backing: Image | None, reading: Reading) -> Image:
    structure = layer.structure
    if layer.format == "qcow":
        from qcow2crypt.image.qcow1.reader import Qcow1Image

        return Qcow1Image(layer.file, secret=secret, engine=reading.engine, backing=backing)
    if not isinstance(structure, Structure):
        from qcow2crypt.image.raw import RawImage

        return RawImage(layer.file, probed=layer.probed)
    if layer.file.writable:
        from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor

        return Qcow2Editor(
            layer.file,
            secret=secret,
            engine=reading.engine,
            backing=backing,
            data_file=layer.data_file,
        )
    from qcow2crypt.image.qcow2.reader import Qcow2Image

    return Qcow2Image(
        layer.file,
        secret=secret,
        engine=reading.engine,
        backing=backing,
        data_file=layer.data_file,
        without_backing=backing is None,
        raw_zeros=reading.raw_zeros,
        wrong_iv=reading.wrong_iv,
        structure=structure,
    )
