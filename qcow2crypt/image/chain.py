"""Open the files of an image: the image itself, its data file, all its backing files.

Follows the names from file to file, asks the policy about each, takes QEMU's image locks and
stops at a loop.  Reads headers only; what comes out is a list of layers, the image first.
Iterative, as all that goes down a chain: it may have any length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from qcow2crypt.errors import (
    ArgumentError,
    BackingChainError,
    ExternalReferenceError,
    FormatError,
    SourceError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.names import (
    JSON,
    READABLE,
    LayerOptions,
    path_beside,
    protocol_of,
    stored_options,
)
from qcow2crypt.image.policy import External, Policy, home_of
from qcow2crypt.image.probe import probe
from qcow2crypt.image.qcow2.header import CRYPT_AES, INCOMPAT_DATA_FILE
from qcow2crypt.image.qcow2.structure import Structure, read_structure

if TYPE_CHECKING:
    from qcow2crypt.image.qcow1.structure import Qcow1Structure

_DATA_FILE_HINT = (
    "--image-opts with data-file.filename=PATH, and 'qcow2crypt amend -o data_file=NAME' for good"
)

_FILE_FORMATS = ("file", "host_device")
"""QEMU's file drivers as a backing format: the bytes of the file, which is raw."""


class Place(NamedTuple):
    """One step down a chain: the next file.

    ``stored`` is its name as the file ``image`` has it, None where a person named it.
    """

    depth: int
    path: str
    image: str
    stored: str | None
    options: LayerOptions


class Layer:
    """One open file of a chain.  ``place`` is None for the image itself, which has depth 0.

    ``probed`` tells that the format was told from the first bytes.
    """

    __slots__ = ("data_file", "file", "format", "options", "place", "probed", "structure")

    def __init__(
        self,
        file: HostFile,
        format: str,  # noqa: A002 - as everywhere
        options: LayerOptions,
        place: Place | None,
        *,
        probed: bool,
    ) -> None:
        self.file = file
        self.format = format
        self.options = options
        self.place = place
        self.probed = probed
        self.structure: Structure | Qcow1Structure | None = None
        self.data_file: HostFile | None = None

    @property
    def depth(self) -> int:
        """0 for the image itself, 1 for its backing file, and so on."""
        return self.place.depth if self.place else 0

    @property
    def encrypted(self) -> bool:
        """True for legacy AES, which needs a passphrase."""
        return self.structure is not None and self.structure.header.crypt_method == CRYPT_AES

    @property
    def names(self) -> tuple[str, ...]:
        """What a secret may be given by: stored name, path, real path, last part of the path."""
        path = self.file.name
        stored = self.place.stored if self.place else None
        last = os.path.basename(path)
        return tuple(name for name in (stored, path, os.path.realpath(path), last) if name)


class ChainFiles:
    """The open files of a chain, the image first; ``close`` closes them all."""

    __slots__ = ("layers",)

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def close(self) -> None:
        """Close every file.  May be called again."""
        for layer in self.layers:
            layer.file.close()
            if layer.data_file is not None:
                layer.data_file.close()


def open_files(
    source: Source,
    *,
    options: LayerOptions | None = None,
    external: External,
    writable: bool = False,
    writes: Callable[[Place], bool] | None = None,
    force_share: bool = False,
) -> ChainFiles:
    """Open and lock every file of the chain under ``source``, all but the first read-only.

    ``writes`` tells which other ones are opened for writing, too (``commit`` writes to one).
    ``options`` are what a person said of the layers.  Raises SourceError, FormatError,
    UnsupportedFeatureError, ExternalReferenceError, BackingChainError, ImageLockedError,
    ReadOnlyError, ArgumentError; no file stays open then.
    """
    options = options or LayerOptions()
    file = HostFile(source, writable=writable)
    chain = ChainFiles()
    met = FilesMet()
    try:
        policy = Policy(external, home_of(file))
        with _naming(file):
            met.add(file)
            _add(chain, file, options, None, policy, force_share=force_share)
        while (place := next_place(chain.layers[-1])) is not None:
            with _naming(place):
                file = open_place(place, policy, writable=writes is not None and writes(place))
                met.add(file)
                _add(chain, file, place.options, place, policy, force_share=force_share)
    except BaseException:
        file.close()
        chain.close()
        raise
    return chain


def _add(
    chain: ChainFiles,
    file: HostFile,
    options: LayerOptions,
    place: Place | None,
    policy: Policy,
    *,
    force_share: bool,
) -> None:
    file.lock(writing=file.writable, force_share=force_share)
    layer = Layer(
        file, _format(file, options, place), options, place, probed=options.format is None
    )
    if layer.format == "qcow2":
        layer.structure = read_structure(file)
    elif layer.format == "qcow":
        from qcow2crypt.image.qcow1.structure import read_qcow1_structure

        layer.structure = read_qcow1_structure(file)
    chain.layers.append(layer)
    layer.data_file = _open_data_file(layer, policy, force_share=force_share)


def _format(file: HostFile, options: LayerOptions, place: Place | None) -> str:
    found = options.format or probe(file)
    if found in _FILE_FORMATS:
        return "raw"
    if found in READABLE:
        return found
    if place is None and options.format is not None:
        raise ArgumentError(f"format {found!r} is not one of {', '.join(READABLE)}")
    hint = f"'{file.name}'" if place else f"'{file.name}'; use format='raw' for its raw bytes"
    raise UnsupportedFeatureError(f"images of format {found}", hint)


class FilesMet:
    """The files on the way down a chain.  A file that comes twice is a loop."""

    def __init__(self) -> None:
        self._count = 0
        self._met: dict[tuple[int, int], tuple[int, str]] = {}

    def add(self, file: HostFile) -> None:
        """The next file.  Raises BackingChainError for one that the chain has already."""
        identity = file.identity()
        if identity is not None:
            here = self._count, file.name
            depth, name = self._met.setdefault(identity, here)
            if (depth, name) != here:
                raise BackingChainError(
                    f"the chain of backing files has a loop: '{file.name}' at depth {self._count} "
                    f"is the same file as '{name}' at depth {depth}"
                )
        self._count += 1


def next_place(layer: Layer) -> Place | None:
    """Where the backing file of a layer lies, or None.  Raises ExternalReferenceError."""
    structure = layer.structure
    said = layer.options.backing or LayerOptions()
    if layer.options.no_backing:
        return None
    if structure is None:  # a raw image
        if layer.options.backing is not None:
            raise ArgumentError(f"'{layer.file.name}' is raw: it has no backing file")
        return None
    stored_format = structure.backing_format if isinstance(structure, Structure) else None
    return backing_place(
        layer.file, structure.backing_file, stored_format, said, depth=layer.depth + 1
    )


def backing_place(
    file: HostFile, stored: str | None, stored_format: str | None, said: LayerOptions, *, depth: int
) -> Place | None:
    """Join the backing file name that ``file`` stores with what a person ``said`` of it.

    The format is what was said, else what is stored beside the name, else what the name says
    (``json:``), as in QEMU; else the first bytes decide.
    """
    image = file.name
    beside = LayerOptions(format=stored_format or None)
    if said.path is not None:
        return Place(depth, said.path, image, None, said.over(beside))
    if stored is None:
        if said != LayerOptions():
            raise ArgumentError(
                f"options for a backing file of '{image}' are given, but it has none"
            )
        return None
    try:
        options = said.over(beside).over(stored_options(stored))
    except ArgumentError as error:
        raise ExternalReferenceError(image, stored, str(error)) from None
    path = options.path or ""
    if not stored.startswith(JSON):
        path = path_beside(image, path)
        if not os.path.isabs(path) and home_of(file) is None:
            reason = "the image has no directory that this name could start from"
            raise ExternalReferenceError(image, stored, reason)
    return Place(depth, path, image, stored, options)


def open_place(place: Place, policy: Policy, *, writable: bool = False) -> HostFile:
    """Open the next file of a chain, if the policy lets us."""
    if place.stored is None:
        return HostFile(place.path, writable=writable)
    return _open_external(place.path, policy, place.image, place.stored, writable=writable)


def _open_external(
    path: str, policy: Policy, image: str, reference: str, *, writable: bool
) -> HostFile:
    policy.check(path, image=image, reference=reference)
    file = HostFile(path, writable=writable)
    try:
        policy.check_opened(file, path, image=image, reference=reference)
    except BaseException:
        file.close()
        raise
    return file


def _open_data_file(layer: Layer, policy: Policy, *, force_share: bool) -> HostFile | None:
    """Open the external data file of a qcow2 layer, writable where the layer is."""
    structure = layer.structure
    image = layer.file.name
    said = layer.options.data_file
    wanted = isinstance(structure, Structure) and bool(
        structure.header.incompatible_features & INCOMPAT_DATA_FILE
    )
    if not isinstance(structure, Structure) or not wanted:
        if said is not None:
            raise ArgumentError(f"a data file is given, but '{image}' has no external data file")
        return None
    writable = layer.file.writable
    stored = structure.data_file
    if said is not None:
        file = HostFile(said, writable=writable)
    elif stored:
        file = _open_stored_data(layer, stored, policy, writable=writable)
    else:
        reason = f"the image does not name it; {_DATA_FILE_HINT}"
        raise ExternalReferenceError(image, "an external data file", reason)
    try:
        met = FilesMet()
        met.add(layer.file)
        met.add(file)
        file.lock(writing=writable, force_share=force_share)
    except BaseException:
        file.close()
        raise
    return file


def _open_stored_data(layer: Layer, stored: str, policy: Policy, *, writable: bool) -> HostFile:
    image = layer.file.name
    if stored.startswith(JSON) or protocol_of(stored) is not None:
        raise ExternalReferenceError(image, stored, "only local files are opened as a data file")
    paths = [stored]
    home = home_of(layer.file)
    if not os.path.isabs(stored) and home is not None:
        # QEMU looks in the current directory of the process, and only there.  Beside the image
        # is where people expect the file.
        paths.append(os.path.join(home, stored))
    paths = [path for path in paths if os.path.exists(path)] or paths[-1:]
    if len(paths) > 1:
        with suppress(ExternalReferenceError):
            return _open_external(paths[0], policy, image, stored, writable=writable)
    try:
        return _open_external(paths[-1], policy, image, stored, writable=writable)
    except SourceError as error:
        hint = f"to name another file: {_DATA_FILE_HINT}"
        raise SourceError(f"{error} (data file of '{image}'; {hint})") from error


@contextmanager
def _naming(what: Place | HostFile) -> Iterator[None]:
    """Say in an error which file it is about, and of a backing file whose it is."""
    where = (
        f"backing file '{what.path}' of '{what.image}'"
        if isinstance(what, Place)
        else f"'{what.name}'"
    )
    try:
        yield
    except SourceError as error:
        if isinstance(what, HostFile):
            raise  # names the file already
        hint = (
            "; to name another file: 'qcow2crypt rebase -u -b NAME' for good, or --image-opts with "
            "backing.file.filename=PATH"
        )
        raise SourceError(f"{error} ({where}{hint})") from error
    except FormatError as error:
        error.in_file(where)
        raise
