"""``qcow2crypt amend``: change options of an existing qcow2 image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.manner import check_cache
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    QUIET,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.progress import PROGRESS_OPTIONS, progress_mode
from qcow2crypt.cli.qemuopts import parse_bool, parse_options
from qcow2crypt.cli.sizes import parse_number, parse_size
from qcow2crypt.cli.terminal import Console, printable

USAGE = "qcow2crypt amend [options] -o OPTIONS FILE"
ABOUT = """\
Change options of a qcow2 image: compat=0.10 or 1.1, lazy_refcounts, refcount_bits, size.  The disk
stays what it is, in an encrypted image too; the passphrase cannot be changed so: convert does that.
data_file=NAME is the new name of an external data file, which is not looked at or copied.

  qcow2crypt amend -o compat=1.1,lazy_refcounts=on disk.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    Option("o", "o", metavar="OPTIONS", about="what to change; -o help lists it"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    *PROGRESS_OPTIONS,
    QUIET,
    Option("t", "t", metavar="CACHE", about="no effect on the result: QEMU's cache"),
    Option("force", name="force", about="no effect: it is for LUKS passphrases"),
    HELP,
)
_HELP_LINES = (
    "Amend options for 'qcow2':",
    "  compat=<str>           - Compatibility level (v2 [0.10] or v3 [1.1])",
    "  data_file=<str>        - File name of an external data file",
    "  data_file_raw=<bool (on/off)> - The external data file must stay valid as a raw image",
    "  lazy_refcounts=<bool (on/off)> - Postpone refcount updates",
    "  refcount_bits=<num>    - Width of a reference count entry in bits",
    "  size=<size>            - Virtual disk size",
)
_VERSIONS: dict[str, Literal[2, 3]] = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}
_KNOWN = ("compat", "data_file", "data_file_raw", "lazy_refcounts", "refcount_bits", "size")
_ONLY_CREATE = (
    *("cluster_size", "encryption", "encrypt.format", "preallocation", "extended_l2"),
    "compression_type",
)


def run(arguments: Arguments, console: Console) -> int:
    """Change what -o says.  Raises what the library raises."""
    texts = arguments.all("o")
    if any(text in ("help", "?") for text in texts):
        for line in _HELP_LINES:
            console.out(line)
        return 0
    if not texts:
        raise UsageError("amend needs to be told what to change: -o OPTIONS")
    if len(arguments.operands) != 1:
        raise UsageError("amend takes the name of one image")
    if not all(texts):
        raise CommandError("-o: an option list is not empty")
    check_cache(arguments, "t")
    progress_mode(arguments)
    given = parse_options(",".join(texts), what="-o", flags=True)
    for key in given:
        _check_key(key)
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    from qcow2crypt.tasks.amending import amend

    version = _version(given.get("compat"))
    lazy, raw = (_switch(given, key) for key in ("lazy_refcounts", "data_file_raw"))
    bits = given.get("refcount_bits")
    size = given.get("size")
    bits_wanted = None
    if bits is not None:
        bits_wanted = parse_number(bits, what="-o refcount_bits", smallest=1, largest=64)
    size_wanted = None if size is None else parse_size(size, what="-o size")
    with open_named(name, arguments, objects, console, mode="r+") as image:
        amend(
            image,
            version=version,
            lazy_refcounts=lazy,
            refcount_bits=bits_wanted,
            size=size_wanted,
            data_file=given.get("data_file"),
            data_file_raw=raw,
        )
    return 0


def _switch(given: Mapping[str, str], key: str) -> bool | None:
    return parse_bool(given[key], what=f"-o {key}") if key in given else None


def _version(text: str | None) -> Literal[2, 3] | None:
    if text is None:
        return None
    if text not in _VERSIONS:
        raise CommandError(f"-o compat is 0.10 or 1.1, not '{printable(text)}'")
    return _VERSIONS[text]


def _check_key(key: str) -> None:
    if key in _KNOWN:
        return
    if key in ("backing_file", "backing_fmt"):
        raise CommandError(f"-o {key}: 'qcow2crypt rebase' changes the backing file")
    if key in _ONLY_CREATE:
        raise CommandError(f"-o {key} is for new images: 'qcow2crypt convert' makes one")
    if key.startswith("encrypt."):
        raise CommandError(
            f"-o {printable(key)}: only LUKS has passphrases that can be changed; "
            "'qcow2crypt convert' encrypts with another one"
        )
    raise CommandError(f"-o: '{printable(key)}' is no option of amend; -o help lists them")
