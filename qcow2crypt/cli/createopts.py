"""The value of ``-o``: what the new image is like.

Knows qemu-img's options for qcow2 and raw; whether a value makes sense for an image is for the
library to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.qemuopts import escape_value, parse_bool, parse_options, split_options
from qcow2crypt.cli.sizes import parse_number, parse_size
from qcow2crypt.cli.terminal import printable

if TYPE_CHECKING:
    from qcow2crypt import Qcow2Options
    from qcow2crypt.image.qcow2.options import Preallocation
    from qcow2crypt.tasks.creation import TargetFormat, TargetOptions

_UINT64_MAX = 2**64 - 1


class Row(NamedTuple):
    """One option: ``kind`` is size, number, bool or text."""

    kind: str
    about: str
    default: str | None = None


# In the order in which qemu-img prints what it is about to create.
_QCOW2 = {
    "encryption": Row("bool", "Old word for encrypt.format=aes"),
    "encrypt.format": Row("text", "Encrypt the image: aes"),
    "encrypt.key-secret": Row("text", "ID of the --object secret with the passphrase"),
    "cluster_size": Row("size", "Cluster size, 512 to 2M", default="65536"),
    "extended_l2": Row("bool", "Extended L2 tables (subclusters)", default="off"),
    "preallocation": Row("text", "Preallocation: off, metadata, falloc or full"),
    "compression_type": Row("text", "Compression method: zlib or zstd", default="zlib"),
    "size": Row("size", "Size of the guest disk"),
    "compat": Row("text", "Format version: 0.10 (v2) or 1.1 (v3)"),
    "backing_file": Row("text", "File of a base image"),
    "backing_fmt": Row("text", "Format of the base image"),
    "data_file": Row("text", "External data file"),
    "data_file_raw": Row("bool", "External data file stays raw"),
    "lazy_refcounts": Row("bool", "Postpone refcount updates", default="off"),
    "refcount_bits": Row("number", "Width of a refcount in bits, 1 to 64", default="16"),
    "nocow": Row("bool", "No effect on the result (btrfs)"),
    "extent_size_hint": Row("size", "No effect on the result (file system hint)"),
}
_RAW = {
    "size": _QCOW2["size"],
    "nocow": _QCOW2["nocow"],
    "preallocation": Row("text", "Preallocation: off, falloc or full"),
    "extent_size_hint": _QCOW2["extent_size_hint"],
}
_LUKS_ONLY = frozenset(
    f"encrypt.{name}"
    for name in (
        "cipher-alg",
        "cipher-mode",
        "hash-alg",
        "iter-time",
        "ivgen-alg",
        "ivgen-hash-alg",
    )
)
TABLES = {"qcow2": _QCOW2, "raw": _RAW}

_VERSIONS: dict[str, Literal[2, 3]] = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}
_COMPRESSION_TYPES: dict[str, Literal["zlib", "zstd"]] = {"zlib": "zlib", "zstd": "zstd"}
_RAW_PREALLOCATIONS: dict[str, Literal["off", "falloc", "full"]] = {
    "off": "off",
    "falloc": "falloc",
    "full": "full",
}
_PREALLOCATIONS: dict[str, Preallocation] = {
    "off": "off",
    "metadata": "metadata",
    "falloc": "falloc",
    "full": "full",
}

_Word = TypeVar("_Word")


class CreateOptions(NamedTuple):
    """What ``-o`` asks for.  ``given`` holds the options as they were typed, later ones winning."""

    format: TargetFormat
    given: dict[str, str]

    @property
    def encrypted(self) -> bool:
        """Whether a form of encryption is asked for, old word or new."""
        return "encrypt.format" in self.given or self.given.get("encryption") in _TRUE

    @property
    def key_secret(self) -> str | None:
        """The id of the secret, or None."""
        return self.given.get("encrypt.key-secret")

    @property
    def backing(self) -> tuple[str, str | None] | None:
        """Name and format of the backing file, or None without one."""
        name = self.given.get("backing_file")
        return None if name is None else (name, self.given.get("backing_fmt"))

    @property
    def size(self) -> int | None:
        """The size of the guest disk, or None."""
        text = self.given.get("size")
        return None if text is None else parse_size(text, what="-o size")

    def target_options(self) -> TargetOptions:
        """The same in the library's words, for either format.  As ``library_options``."""
        if self.format == "qcow2":
            return self.library_options()
        wanted = self.given.get("preallocation", "off")
        if wanted == "off":
            return None
        from qcow2crypt import RawOptions

        return RawOptions(_choice("preallocation", wanted, _RAW_PREALLOCATIONS))

    def library_options(self) -> Qcow2Options:
        """The same in the library's words, for qcow2.  Raises CommandError and ArgumentError."""
        from qcow2crypt import Qcow2Options

        get = self.given.get
        compression_type = get("compression_type", "zlib")
        return Qcow2Options(
            version=_choice("compat", get("compat", "1.1"), _VERSIONS),
            cluster_size=parse_size(get("cluster_size", "64k"), what="-o cluster_size"),
            encryption="aes" if self.encrypted else None,
            lazy_refcounts=parse_bool(get("lazy_refcounts", "off"), what="-o lazy_refcounts"),
            refcount_bits=_parse_refcount_bits(get("refcount_bits", "16")),
            compression_type=_choice("compression_type", compression_type, _COMPRESSION_TYPES),
            extended_l2=parse_bool(get("extended_l2", "off"), what="-o extended_l2"),
            preallocation=_choice("preallocation", get("preallocation", "off"), _PREALLOCATIONS),
            backing_file=get("backing_file"),
            backing_format=get("backing_fmt"),
            data_file=get("data_file"),
            data_file_raw=parse_bool(get("data_file_raw", "off"), what="-o data_file_raw"),
        )

    def described(self, size: int) -> str:
        """``fmt=qcow2 cluster_size=65536 size=...``: the line that qemu-img prints."""
        words = [f"fmt={self.format}"]
        for name, row in TABLES[self.format].items():
            value = str(size) if name == "size" else self.given.get(name, row.default)
            if value is None:
                continue
            if row.kind == "size" and name != "size":
                value = str(parse_size(value, what=f"-o {name}"))
            elif row.kind == "number":
                value = str(_parse_refcount_bits(value))
            words.append(f"{name}={escape_value(printable(value))}")
        return " ".join(words)


def _choice(option: str, text: str, words: Mapping[str, _Word]) -> _Word:
    """What ``text`` stands for.  Raises CommandError, which lists the words."""
    if text not in words:
        raise CommandError(f"-o {option}: '{printable(text)}' is none of {', '.join(words)}")
    return words[text]


def _parse_refcount_bits(text: str) -> int:
    return parse_number(text, what="-o refcount_bits", smallest=1, largest=64)


_TRUE = ("on", "yes", "true", "y")


def wants_help(texts: Sequence[str]) -> bool:
    """Whether one of the ``-o`` values holds ``help`` or ``?`` alone."""
    return any(
        name in ("help", "?") and value is None
        for text in texts
        for name, value in split_options(text)
    )


def help_lines(format_name: str) -> list[str]:
    """What ``-o help`` prints for a format."""
    lines = [f"Supported {format_name} options:"]
    for name, row in sorted(TABLES[format_name].items()):
        kind = {"text": "str", "number": "num", "bool": "bool (on/off)"}.get(row.kind, row.kind)
        lines.append(f"  {name}=<{kind}>".ljust(33) + f" - {row.about}")
    return lines


def read_create_options(texts: Sequence[str], format_name: TargetFormat) -> CreateOptions:
    """Take the ``-o`` values apart, joined in order.  Raises CommandError."""
    for text in texts:
        if not text or text.startswith(",") or _ends_in_comma(text):
            raise CommandError("-o: an option list neither is empty nor begins or ends in a comma")
    given = parse_options(",".join(texts), what="-o", flags=True)
    table = TABLES[format_name]
    for name, value in given.items():
        if name in _LUKS_ONLY and format_name == "qcow2":
            raise CommandError(f"-o {name} belongs to LUKS, which cannot be written yet")
        if name not in table:
            raise CommandError(
                f"-o: {format_name} has no option '{printable(name)}'; -o help lists them"
            )
        _check_value(name, value, table[name])
    _check_encryption(given)
    return CreateOptions(format_name, given)


def with_backing(
    wanted: CreateOptions, backing_file: str | None, backing_format: str | None, *, option: str
) -> CreateOptions:
    """Add the values of -b (or -B, which ``option`` tells) and -F, which win over -o.

    Raises CommandError.
    """
    given = {"backing_file": backing_file, "backing_fmt": backing_format}
    more = {name: value for name, value in given.items() if value is not None}
    if more and wanted.format == "raw":
        raise CommandError(f"{option}: a raw image cannot have a backing file; ask for qcow2")
    if backing_file == "":
        raise CommandError(f"{option}: the name of the backing file is empty")
    return wanted._replace(given=wanted.given | more)


def _ends_in_comma(text: str) -> bool:
    return (len(text) - len(text.rstrip(","))) % 2 == 1


def _check_value(name: str, value: str, row: Row) -> None:
    if row.kind == "bool":
        parse_bool(value, what=f"-o {name}")
    elif row.kind == "size":
        parse_size(value, what=f"-o {name}", largest=_UINT64_MAX)


def _check_encryption(given: dict[str, str]) -> None:
    method = given.get("encrypt.format")
    old_word = given.get("encryption") in _TRUE
    if method is None:
        if "encrypt.key-secret" in given and not old_word:
            raise CommandError("-o encrypt.key-secret without encryption: add encrypt.format=aes")
        return
    if old_word:
        raise CommandError("-o encryption and encrypt.format say the same twice: leave one out")
    if method == "luks":
        raise CommandError("-o encrypt.format=luks is not supported yet; supported: aes")
    if method not in ("aes", "qcow"):
        raise CommandError(
            f"-o encrypt.format: '{printable(method)}' is unknown; supported: aes (or 'qcow')"
        )
