"""What the name of an image means: a path, image options, or ``json:{...}``, as QEMU has them.

Knows words, opens nothing.  Image options are flat: ``backing.file.filename`` is the file under
the first backing file.  Keys that only tune QEMU's caches and locks are taken and have no effect;
keys that would change what is read are refused by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qemujson import parse_object

READABLE = ("qcow2", "qcow", "raw")
"""The formats that are read, in qemu-img's words."""

JSON = "json:"
_FILE = "file:"
_FILE_DRIVERS = ("file", "host_device")
_OTHER_FORMATS = frozenset(
    ("bochs", "cloop", "dmg", "luks", "parallels", "qed", "vdi", "vhdx", "vmdk", "vpc", "vvfat")
)
# Patterns are compiled at their first use: hardly any name needs one.
_PROTOCOL = (
    r"(fat|ftps?|gluster(?:\+\w+)?|https?|iscsi|iser|nbd(?:\+\w+)?|nfs|nvme|rbd|ssh|tftp|vxhs"
    r"|blkdebug|blklogwrites|blkverify|null-aio|null-co|quorum|sheepdog):"
)
# Tuning of QEMU's block layer: the bytes that are read do not depend on it.
_NO_EFFECT = (
    r"(?:file\.)?(?:node-name|discard|detect-zeroes|auto-read-only|force-share|cache\.direct"
    r"|cache\.no-flush|read-only)"
    r"|lazy-refcounts|overlap-check(?:\..+)?|pass-discard-(?:request|snapshot|other)|cache-size"
    r"|l2-cache-size|l2-cache-entry-size|refcount-cache-size|cache-clean-interval|discard-no-unref"
    r"|file\.(?:locking|aio|aio-max-batch|drop-cache|x-check-cache-dropped|pr-manager)"
)
_NOT_YET = {"offset": "a part of a raw file", "size": "a part of a raw file"}
_DEEPEST = 32
"""Levels of ``backing.`` that are read: nobody writes more by hand."""


class LayerOptions(NamedTuple):
    """What is said of one layer of a chain besides what the image says.  None: nothing.

    ``key_secret`` is the id of a secret object, ``encrypt_format`` what the header must say.
    ``no_backing`` leaves the backing file out that the image names (``"backing": null``).
    """

    path: str | None = None
    format: str | None = None
    key_secret: str | None = None
    encrypt_format: str | None = None
    read_only: bool = False
    backing: LayerOptions | None = None
    no_backing: bool = False
    data_file: str | None = None

    def over(self, other: LayerOptions) -> LayerOptions:
        """These options, and those of ``other`` where these say nothing."""
        backing = self.backing
        if backing is None or self.no_backing:
            backing = None if self.no_backing else other.backing
        elif other.backing is not None:
            backing = backing.over(other.backing)
        return LayerOptions(
            path=self.path if self.path is not None else other.path,
            format=self.format or other.format,
            key_secret=self.key_secret or other.key_secret,
            encrypt_format=self.encrypt_format or other.encrypt_format,
            read_only=self.read_only or other.read_only,
            backing=backing,
            no_backing=self.no_backing or (self.backing is None and other.no_backing),
            data_file=self.data_file or other.data_file,
        )


def check_format(name: str, *, what: str, allowed: tuple[str, ...] = READABLE) -> str:
    """``name`` if it is one of ``allowed``.  Raises ArgumentError with the list."""
    if name in allowed:
        return name
    known = name in READABLE or name in _OTHER_FORMATS
    reason = "is not supported yet" if known else "is unknown"
    raise ArgumentError(f"{what} '{name}' {reason}; supported: {', '.join(allowed)}")


def protocol_of(name: str) -> str | None:
    """The protocol in a name, such as ``nbd``; None for a name of a local file.

    As in QEMU it is what stands before a colon, if no slash comes first.
    """
    first = name.partition("/")[0]
    return first.partition(":")[0] if ":" in first else None


def local_path(text: str) -> str:
    """The path that a person typed: ``file:`` taken off.  Raises ArgumentError.

    Only names of QEMU's protocols are refused: people have files with colons in their names.
    """
    path = text.removeprefix(_FILE)
    if ":" in text and (protocol := re.match(_PROTOCOL, text)):
        raise ArgumentError(
            f"'{protocol[0]}' is not supported yet: only local files can be opened "
            f"(a file of that name: './{text}')"
        )
    if not path:
        raise ArgumentError("the file name is empty")
    if "\0" in path:
        raise ArgumentError("the file name holds a NUL character")
    return path


def stored_options(name: str) -> LayerOptions:
    """The options in a name that an image stores; a plain one has only a path.

    ``file:`` is taken off, and then, as in QEMU, the path is relative to the current directory
    of the process and not to the image; so is one inside ``json:``.  Raises ArgumentError for
    what is not a local file.
    """
    if name.startswith(JSON):
        what = "json: file name"
        return layer_options(
            parse_object(name[len(JSON) :], what=what, nulls=("backing",)), what=what
        )
    if name.startswith(_FILE):
        return LayerOptions(path=os.path.abspath(local_path(name)))
    protocol = protocol_of(name)
    if protocol is not None:
        raise ArgumentError(f"only local files are opened, not '{protocol}:'")
    return LayerOptions(path=local_path(name))


def path_beside(image: str, path: str) -> str:
    """A path that the file ``image`` names, which is relative to that file.

    The folder stays as it was typed: ``dir/../base``, as QEMU shows it.
    """
    return path if os.path.isabs(path) else image[: image.rfind("/") + 1] + path


def layer_options(
    options: Mapping[str, str], *, what: str, given_format: str | None = None, top: bool = True
) -> LayerOptions:
    """Read flat image options.  ``given_format`` is -f, which goes before ``driver``.

    ``top`` demands a file name: a backing file may have it from the image above.  Messages begin
    with ``what``.  Raises ArgumentError.
    """
    return _layer(dict(options), what, given_format, prefix="", top=top)


def _layer(
    rest: dict[str, str], what: str, given: str | None, *, prefix: str, top: bool
) -> LayerOptions:
    if prefix.count("backing.") > _DEEPEST:
        raise ArgumentError(f"{what}: more than {_DEEPEST} levels of backing files")
    if "file" in rest:
        raise ArgumentError(f"{what}: name the file with {prefix}file.filename=PATH")
    driver = rest.pop("driver", None)
    if driver in _FILE_DRIVERS:
        # The file layer alone: its bytes are the guest disk.
        rest = {f"file.{key}": value for key, value in rest.items()} | {"file.driver": driver}
        driver = "raw"
    if driver is not None:
        check_format(driver, what=f"{what}: {prefix}driver")
    image_format = given or driver
    path = _file(rest, what, prefix)
    if path is None and top:
        raise ArgumentError(f"{what}: {prefix}file.filename=PATH is missing")
    found = LayerOptions(path=path, format=image_format)
    if image_format != "raw":
        found = found._replace(
            key_secret=rest.pop("encrypt.key-secret", None),
            encrypt_format=rest.pop("encrypt.format", None),
            data_file=_nested_file(rest, "data-file", what, prefix),
            no_backing="backing" in rest,
            backing=_backing(rest, what, prefix),
        )
    for key in rest:
        _check_rest(key, what, prefix)
    read_only = _is_on(rest.get("read-only", "off"), what=f"{what}: {prefix}read-only")
    return found._replace(read_only=read_only)


def _file(rest: dict[str, str], what: str, prefix: str) -> str | None:
    driver = rest.pop("file.driver", "file")
    if driver not in _FILE_DRIVERS:
        raise ArgumentError(f"{what}: {prefix}file.driver '{driver}' is not supported yet")
    path = rest.pop("file.filename", None)
    return None if path is None else local_path(path)


def _split_off(rest: dict[str, str], name: str) -> dict[str, str]:
    start = f"{name}."
    return {key[len(start) :]: rest.pop(key) for key in list(rest) if key.startswith(start)}


def _nested_file(rest: dict[str, str], name: str, what: str, prefix: str) -> str | None:
    """The file of ``data-file.filename`` and its kin."""
    options = _split_off(rest, name)
    if not options:
        return None
    path = _layer(options | {"driver": options.get("driver", "file")}, what, None,
                  prefix=f"{prefix}{name}.", top=True).path  # fmt: skip
    return path


def _backing(rest: dict[str, str], what: str, prefix: str) -> LayerOptions | None:
    options = _split_off(rest, "backing")
    # QEMU takes "" for null, and otherwise the name of a node, of which we have none.
    if rest.pop("backing", ""):
        raise ArgumentError(f"{what}: {prefix}backing names a node; use {prefix}backing.driver=...")
    return _layer(options, what, None, prefix=f"{prefix}backing.", top=False) if options else None


def _is_on(value: str, *, what: str) -> bool:
    if value not in ("on", "off"):
        raise ArgumentError(f"{what} is on or off")
    return value == "on"


def _check_rest(key: str, what: str, prefix: str) -> None:
    if re.fullmatch(_NO_EFFECT, key):
        return
    first = key.partition(".")[0]
    if first in _NOT_YET:
        raise ArgumentError(f"{what}: '{prefix}{key}' is not supported yet ({_NOT_YET[first]})")
    raise ArgumentError(f"{what}: unknown option '{prefix}{key}'")
