"""Open an image that a word of the command line names, with all its layers and passphrases.

Every command that reads guest bytes or tables comes here: one place knows which passphrase goes
to which layer, and what --external and --force-share mean.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.images import ImageName
from qcow2crypt.cli.objects import SecretObject
from qcow2crypt.cli.options import Arguments
from qcow2crypt.cli.passphrases import (
    GivenPassphrase,
    Passphrase,
    PromptedPassphrase,
    given_passphrase,
    layer_passphrases,
    object_passphrase,
)
from qcow2crypt.cli.qemuopts import parse_options
from qcow2crypt.cli.terminal import Console, printable
from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.image import open_layers
from qcow2crypt.image.layers import layers_of
from qcow2crypt.image.policy import DEFAULT, External

if TYPE_CHECKING:
    from qcow2crypt import Image
    from qcow2crypt.image.chain import Layer, Place


class Keyring:
    """The passphrases for the layers of one image; asks on the terminal for those that lack.

    ``prefix`` begins the options with the passphrase of the image itself.  ``only_names`` is for
    an image that has no such options: its passphrases are given by file name.  What is given is
    read at once.  Raises CommandError when several passphrases are named for one layer.
    """

    def __init__(
        self,
        name: ImageName,
        arguments: Arguments,
        objects: dict[str, SecretObject],
        console: Console,
        *,
        prefix: str = "secret",
        only_names: bool = False,
    ) -> None:
        self._arguments = arguments
        self._objects = objects
        self._console = console
        self._prefix = prefix
        self._name = name
        self._only_names = only_names
        self._top = None
        if not only_names:
            self._top = given_passphrase(
                arguments, (prefix,), key_secret=name.key_secret, objects=objects, console=console
            )
        self._layer_key = f"{prefix.removesuffix('secret')}layer-secret"
        self._layers = layer_passphrases(arguments, console, self._layer_key)
        self._asked: dict[int, Passphrase] = {}

    def __call__(self, layer: Layer) -> Passphrase:
        """The passphrase for a layer that needs one.  Raises CommandError."""
        depth = layer.depth
        if depth not in self._asked:
            below = depth > 0 or self._only_names
            named = printable(layer.names[0]) if self._only_names else str(depth)
            self._asked[depth] = self.given(layer) or PromptedPassphrase(
                printable(layer.file.name) if below else self._name.shown,
                f"--{self._layer_key if below else self._prefix}",
                new=False,
                console=self._console,
                objects=self._objects,
                layer=named if below else "",
            )
        return self._asked[depth]

    def given(self, layer: Layer) -> GivenPassphrase | None:
        """The passphrase that the command line gives for a layer; None: it gives none.

        Raises CommandError when it gives two.
        """
        names: tuple[str, ...] = layer.names
        if not self._only_names:
            names = (str(layer.depth), *layer.names) if layer.depth else ("0",)
        found = [self._layers[name] for name in dict.fromkeys(names) if name in self._layers]
        if layer.depth == 0 and not self._only_names:
            found += [] if self._top is None else [self._top]
        elif layer.options.key_secret is not None and not found:
            # A name that the image stores may ask for a secret, too; what is typed goes before.
            return object_passphrase(
                layer.options.key_secret, self._arguments, self._objects, self._console
            )
        if len(found) > 1:
            raise CommandError(
                f"{' and '.join(one.origin for one in found)} name two passphrases for one image"
            )
        return found[0] if found else None


def external_of(arguments: Arguments) -> External:
    """The value of --external.  Raises CommandError."""
    value = arguments.last("external")
    if value is None:
        return DEFAULT
    known: dict[str, External] = {"beneath": "beneath", "any": "any", "none": "none"}
    if value not in known:
        raise CommandError("--external is beneath, any or none")
    return known[value]


def snapshot_of(text: str | None, name: ImageName, arguments: Arguments) -> str | None:
    """The snapshot that -l names, as an id or a name for the library.

    ``snapshot.id=`` and ``snapshot.name=`` look at one of the two only; with both, both must fit.
    Raises CommandError.
    """
    if text is None or not text.startswith("snapshot."):
        return text
    wanted = parse_options(text, what="-l")
    unknown = [key for key in wanted if key not in ("snapshot.id", "snapshot.name")]
    if unknown:
        raise CommandError(f"-l: unknown option '{printable(unknown[0])}'")
    import qcow2crypt

    share = arguments.flag("force-share")
    for one in qcow2crypt.info(name.path, format=name.format, force_share=share).snapshots:
        if wanted.get("snapshot.id", one.id) == one.id and (
            wanted.get("snapshot.name", one.name) == one.name
        ):
            return one.id
    raise CommandError(f"-l: '{name.shown}' has no snapshot with {printable(text)}")


def no_passphrase(layer: Layer) -> bytes:
    """For a command that reads tables only: opening an AES image asks, nothing depends on it."""
    del layer
    return b""


def open_named(
    name: ImageName,
    arguments: Arguments,
    objects: dict[str, SecretObject],
    console: Console,
    *,
    prefix: str = "secret",
    mode: str = "r",
    snapshot: str | None = None,
    tables_only: bool = False,
    writes: Callable[[Place], bool] | None = None,
) -> Image:
    """Open what ``name`` names.  ``tables_only``: no guest byte is read, so no passphrase asked.
    ``writes`` tells which backing files are opened for writing, too.

    Raises CommandError and what the library raises.
    """
    secret_for = (
        no_passphrase if tables_only else Keyring(name, arguments, objects, console, prefix=prefix)
    )
    image = open_layers(
        name.path,
        secret_for,
        mode,
        options=name.options,
        snapshot=snapshot,
        external=external_of(arguments),
        force_share=arguments.flag("force-share"),
        writes=writes,
    )
    return image if tables_only else told_if_cut_short(image, console)


def told_if_cut_short(image: Image, console: Console) -> Image:
    """``image``; a warning says so when its file does not hold all of its data."""
    if all(layer.format != "qcow2" for layer in layers_of(image)):
        return image  # no others are looked at, and what looks at them takes time to load
    from qcow2crypt.image.cutshort import first_missing

    missing = None
    with suppress(Qcow2CryptError):  # reading will tell
        missing = first_missing(image)
    if missing is not None:
        console.warn(
            f"'{printable(missing.name)}' is cut short: the file ends at host offset "
            f"{missing.size:#x}, and the data from guest offset {missing.guest_offset:#x} on, "
            "perhaps more, lies behind that. It reads as zeros, or as noise where it is "
            "encrypted. Look for a whole copy of the file; 'qcow2crypt check' counts what is lost"
        )
    return image
