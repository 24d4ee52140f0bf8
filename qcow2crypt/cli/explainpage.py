"""``explain --html``: the page about an image, and when a key goes into it.

Without --show-key no passphrase is needed and none is read: the page asks its reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.opening import Keyring, external_of, no_passphrase
from qcow2crypt.crypt.legacy_aes import key_from_passphrase
from qcow2crypt.image import open_layers

if TYPE_CHECKING:
    from qcow2crypt.cli.images import ImageName
    from qcow2crypt.cli.options import Arguments
    from qcow2crypt.image.chain import Layer

_NOT_WITH_HTML = ("host-offset", "l", "steps", "output", "json", "wrong-iv")


def write_page(arguments: Arguments, name: ImageName, keys: Keyring, offset: int | None) -> int:
    """Write the page that --html asks for.  Raises CommandError and what the library raises."""
    for excluded in _NOT_WITH_HTML:
        if arguments.flag(excluded):
            spelling = "-l" if excluded == "l" else f"--{excluded}"
            raise CommandError(f"--html and {spelling} exclude each other: the page is of one disk")
    target = arguments.last("html") or ""
    key: bytes | None = None

    def secret_for(layer: Layer) -> bytes:
        nonlocal key
        secret = keys(layer)()
        key = key_from_passphrase(secret)
        return secret

    from qcow2crypt.explaining.page import write

    with open_layers(
        name.path,
        secret_for if arguments.flag("show-key") else no_passphrase,
        options=name.options._replace(no_backing=True),  # the page is about one file
        external=external_of(arguments),
        force_share=arguments.flag("force-share"),
    ) as image:
        write(image, target, offset=offset, key=key)
    return 0
