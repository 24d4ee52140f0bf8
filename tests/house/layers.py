"""The layers of qcow2crypt, as data: which module may import which, and which libraries.

A new module needs a row here (or a place in one); test_layers fails until it has one.  To let a
layer import more, add to its row and say in the commit why the wall was in the wrong place.
CONTRIBUTING.md tells the same for people.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """Modules that may import the same things.

    ``modules``   names below ``qcow2crypt.``; ``x.*`` is the package x with all that is in it;
                  an exact name in another row wins over a star
    ``imports``   layers whose modules these may import, besides their own layer
    ``libraries`` what they may import that is neither ours nor the standard library
    """

    name: str
    modules: tuple[str, ...]
    imports: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


LAYERS = (
    Layer("words", ("units", "errors", "_version")),
    # Not even the words: the textbook can be copied out and read alone.
    Layer("reference", ("reference.*",)),
    Layer("engines", ("engines.*",), ("words", "reference"), ("Crypto",)),
    Layer("crypt", ("crypt.*",), ("words", "reference", "engines")),
    Layer("secret", ("secret",), ("words",)),
    Layer("host file", ("image.hostfile",), ("words",)),
    # Pure layouts: bytes in, frozen dataclass out.
    Layer(
        "layouts",
        ("image.base", "image.qcow2.header", "image.qcow2.extensions", "image.qcow2.entries"),
        ("words",),
    ),
    # These know tables and never keys.
    Layer("tables", ("image.qcow2.mapping",), ("words", "layouts", "host file")),
    Layer(
        "images",
        ("image.*",),
        ("words", "crypt", "secret", "host file", "layouts", "tables"),
        ("backports.zstd",),
    ),
    Layer("output", ("output",), ("words",), ("rich",)),
    Layer(
        "tasks",
        ("convert", "demo"),
        ("words", "reference", "crypt", "secret", "layouts", "images", "output"),
        ("rich",),
    ),
    # The front door: what `import qcow2crypt` offers.
    Layer("front door", ("__init__",), ("words", "secret", "layouts", "images", "tasks")),
    Layer(
        "command line",
        ("cli.*", "__main__"),
        (
            *("front door", "words", "reference", "engines", "crypt", "secret"),
            *("layouts", "images", "output", "tasks"),
        ),
        ("rich",),
    ),
)


def layer_of(module: str) -> Layer | None:
    """The layer of ``module`` (a name below ``qcow2crypt.``, "__init__" for the package itself)."""
    for layer in LAYERS:
        if module in layer.modules:
            return layer
    stars = {
        star.removesuffix(".*"): layer
        for layer in LAYERS
        for star in layer.modules
        if star.endswith(".*")
    }
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = stars.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None
