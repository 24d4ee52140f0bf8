"""Which passphrase opens which layer of a chain.  Knows names and depths, no cipher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from qcow2crypt.errors import ArgumentError, SecretRequiredError
from qcow2crypt.image.chain import ChainFiles, Layer
from qcow2crypt.secret import Secret, passphrase_bytes

LayerSecret: TypeAlias = Callable[[Layer], Secret]
"""Gives the passphrase for a layer that needs one, or None."""


def secrets_by_layer(secret: Secret, secrets: Mapping[str | int, Secret] | None) -> LayerSecret:
    """Look a layer up in ``secrets``, by depth, then by name; ``secret`` is for the image itself.

    A name is the one in the image above, the path, the real path, or the last part of the path;
    at last the id of the secret object that image options or a ``json:`` name ask for.
    """
    given = dict(secrets or {})
    for key in given:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise ArgumentError(f"secrets are given by file name or depth, not by {key!r}")

    def find(layer: Layer) -> Secret:
        if layer.depth == 0 and secret is not None:
            return secret
        asked = layer.options.key_secret
        keys = (layer.depth, *layer.names, *(() if asked is None else (asked,)))
        return next((given[key] for key in keys if given.get(key) is not None), None)

    return find


def ask_all(chain: ChainFiles, secret_for: LayerSecret) -> dict[int, bytes]:
    """The passphrases of all encrypted layers by depth, asked from the image downwards.

    Raises SecretRequiredError, which tells the layer, and SecretError.
    """
    return {
        layer.depth: passphrase_bytes(_required(layer, secret_for), needed_for=describe(layer))
        for layer in chain.layers
        if layer.encrypted
    }


def describe(layer: Layer) -> str:
    """The layer in words."""
    if layer.place is None:
        return f"'{layer.file.name}'"
    return f"backing file '{layer.file.name}' (depth {layer.depth}, under '{layer.place.image}')"


def _required(layer: Layer, secret_for: LayerSecret) -> Secret:
    secret = secret_for(layer)
    if secret is None and layer.place is not None:
        raise SecretRequiredError(
            f"{describe(layer)} is encrypted: a passphrase is needed for this layer. Give it with "
            f"--layer-secret-file {layer.depth}=PATH (secrets={{{layer.depth}: ...}} in Python)"
        )
    return secret
