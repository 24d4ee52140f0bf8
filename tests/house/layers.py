"""The layers of qcow2crypt, as data: which module may import which, and who which library.

A new module needs a row here (or a place in one); test_layers fails until it has one.  To let a
layer import more, add to its row and say in the commit why the wall was in the wrong place.
CONTRIBUTING.md tells the same for people.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """Modules that may import the same things.

    ``modules``  names below ``qcow2crypt.``; ``x.*`` is the package x with all that is in it;
                 an exact name in another row wins over a star
    ``imports``  layers whose modules these may import, besides their own layer
    """

    name: str
    modules: tuple[str, ...]
    imports: tuple[str, ...] = ()


LAYERS = (
    Layer("words", ("units", "errors", "_version")),
    # Not even the words: the textbook can be copied out and read alone.
    Layer("reference", ("reference.*",)),
    Layer("engines", ("engines.*",), ("words", "reference")),
    Layer("crypt", ("crypt.*",), ("words", "reference", "engines")),
    # Each answers one small question, and knows no format and no cipher.
    Layer("helpers", ("secret", "zeros", "htmlpage", "tempfolder"), ("words",)),
    Layer(
        "files",
        (
            *("image.hostfile", "image.filecalls", "image.locks"),
            *("output", "targetfile", "targetdevice", "filecopy", "pagecache"),
        ),
        ("words",),
    ),
    # Pure: bytes in, value out.  No file, no key.
    Layer(
        "layouts",
        (
            *("image.extents", "image.placed", "image.info"),
            *("image.qcow1.header", "image.luks1"),
            *("image.qcow2.header", "image.qcow2.extensions", "image.qcow2.entries"),
            *("image.qcow2.options", "image.rawoptions", "image.qcow2.compressed"),
            "image.qcow2.decompressors",
            "image.qcow2.bitmapentries",
            *("image.qcow2.fresh.header", "image.qcow2.fresh.l2"),
            *("image.qcow2.subclusters", "image.qcow2.wrong_iv"),
            *("image.qcow2.refcountblock", "image.qcow2.counts", "image.qcow2.check.findings"),
        ),
        ("words",),
    ),
    # These know tables, and never keys or guest bytes.
    Layer(
        "tables",
        (
            *("image.probe", "image.qcow2.structure", "image.qcow2.snapshots"),
            *("image.qcow1.structure", "image.qcow1.mapping"),
            *("image.qcow2.mapping", "image.qcow2.tables", "image.qcow2.runs"),
            "image.qcow2.manytables",
            "image.qcow2.bitmapdirectory",
            *("image.qcow2.fresh.allocator", "image.qcow2.fresh.preallocation"),
            "image.qcow2.fresh.places",
            *("image.qcow2.fresh.refcounts", "image.qcow2.bulk.*", "image.qcow2.check.*"),
            "image.qcow2.edit.protected",
            *("image.qcow2.edit.refcounts", "image.qcow2.edit.metadata"),
            *("image.qcow2.edit.zeroing", "image.qcow2.edit.reserving"),
            "image.qcow2.edit.compressing",
            *("image.qcow2.edit.dirtybitmaps", "image.qcow2.edit.bitmapsizes"),
        ),
        ("words", "layouts", "files"),
    ),
    Layer(
        "images",
        ("image.*", "image.qcow2.check.inspection", "image.qcow2.check.rebuild"),
        ("words", "crypt", "helpers", "files", "layouts", "tables"),
    ),
    Layer(
        "tasks",
        ("tasks.*",),
        ("words", "crypt", "helpers", "files", "layouts", "images"),
    ),
    # Of the metadata, not of the guest's disk alone.
    Layer(
        "table tasks",
        ("tasks.amending", "tasks.checking", "tasks.readahead", "tasks.rebasing"),
        ("words", "layouts", "files", "tables", "images", "tasks"),
    ),
    # What lies where in a file, and how one byte comes to be.  It watches the textbook at work.
    Layer(
        "explaining",
        ("explaining.*",),
        (*("words", "reference", "crypt", "helpers", "files", "layouts", "tables", "images"),),
    ),
    # What `import qcow2crypt` offers.
    Layer(
        "front door",
        ("__init__",),
        ("words", "engines", "crypt", "layouts", "images", "tasks", "table tasks", "explaining"),
    ),
    # What other programs do with AES.  It needs a word for a block, and the tables of the textbook.
    Layer("probe", ("probe.*",), ("words", "reference", "helpers")),
    # Gives programs images to work on, or our own engine.
    Layer(
        "examinations",
        (
            *("probe", "probe.doctor", "probe.images", "probe.ownwork"),
            *("probe.qemu", "probe.report"),
        ),
        ("words", "engines", "front door", "helpers", "probe"),
    ),
    # Uses the package as a program would, and takes its time.
    Layer(
        "measuring",
        ("bench.*",),
        ("front door", "words", "engines", "crypt", "helpers"),
    ),
    # Makes images and attacks them: as an attacker, it finds ciphertext by way of the tables.
    Layer(
        "lab",
        ("lab.*",),
        (
            *("front door", "words", "engines", "crypt", "helpers", "files", "layouts", "tables"),
            "measuring",
        ),
    ),
    # Cases for tests, ours or another's: what is made, and who makes it.
    Layer(
        "cases",
        (
            "testing",
            *("testing.case", "testing.rules", "testing.script", "testing.generate"),
            *("testing.tools", "testing.ours", "testing.recording"),
        ),
        ("front door", "words", "files", "images"),
    ),
    # Reads images by its own light: nothing of what it is held against.
    Layer(
        "second opinion",
        ("testing.textbook", "testing.regions", "testing.dates"),
        ("words", "reference"),
    ),
    # Tests any implementation, ours too, from outside.
    Layer(
        "testing",
        ("testing.*",),
        ("front door", "words", "reference", "engines", "crypt", "cases"),
    ),
    Layer(
        "difftest",
        ("difftest.*",),
        (
            *("front door", "words", "reference", "engines", "crypt", "helpers", "cases"),
            "second opinion",
        ),
    ),
    # Programs for people.  Nobody imports them.
    Layer(
        "command line",
        ("cli.*", "__main__", "demo"),
        (
            *("front door", "words", "reference", "engines", "crypt", "helpers", "layouts"),
            *("images", "tasks", "table tasks", "explaining", "examinations", "measuring"),
            *("lab", "cases", "difftest"),
        ),
    ),
)

# Who may import what is neither Python of ours nor the standard library.  Nobody else may.
LIBRARIES = {
    "qcow2crypt._native": ("engines.native",),  # ours, but C: one module knows its pointers
    "Crypto": ("engines.pycryptodome", "difftest.ciphers"),
    "backports.zstd": ("image.qcow2.compressed", "testing.textbook"),
    "zlib_ng": ("image.qcow2.decompressors",),
    "zstandard": ("image.qcow2.decompressors",),
    "rich": ("cli.*",),
    "hypothesis": ("testing.strategies", "testing.images", "testing.machine"),
    "pytest": ("testing.fixtures",),
    # Held against ours, where they are installed.
    "cryptography": ("difftest.ciphers",),
    "pyqcow": ("difftest.readers",),
}


def layer_of(module: str) -> Layer | None:
    """The layer of ``module`` (a name below ``qcow2crypt.``, "__init__" for the package itself)."""
    rows = {name: layer for layer in LAYERS for name in layer.modules}
    names = (name for name in (module, *stars(module)) if name in rows)
    return next((rows[name] for name in names), None)


def stars(module: str) -> list[str]:
    """The stars that ``module`` is under, nearest first: a.b is under a.b.* and a.*."""
    parts = module.split(".")
    return [".".join(parts[:length]) + ".*" for length in range(len(parts), 0, -1)]


def may_use(module: str, library: str) -> bool:
    """May ``module`` import ``library``, a dotted name of neither ours nor the standard library?"""
    return any(
        f"{library}.".startswith(f"{name}.") and not {module, *stars(module)}.isdisjoint(users)
        for name, users in LIBRARIES.items()
    )
