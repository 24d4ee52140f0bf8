"""``--object secret``: passphrases by name, as QEMU defines them.

Knows QEMU's rules for a secret: its text is UTF-8 without NUL, or base64 of such text.  Once an
option may hold a passphrase, no message repeats a part of it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.qemujson import parse_object
from qcow2crypt.cli.qemuopts import parse_options
from qcow2crypt.cli.secretfiles import read_secret_file
from qcow2crypt.cli.terminal import Console, printable

_OTHER_TYPES = frozenset(
    (
        *("authz-list", "authz-list-file", "authz-pam", "authz-simple", "iothread", "main-loop"),
        *("pr-manager-helper", "secret_keyring", "throttle-group", "tls-cipher-suites"),
        *("tls-creds-anon", "tls-creds-psk", "tls-creds-x509"),
    )
)
_ID = r"[A-Za-z][A-Za-z0-9._-]*"
_KEYS = frozenset(("qom-type", "id", "data", "file", "format", "keyid", "iv"))
_BASE64 = rb"[A-Za-z0-9+/\n]*[=\n]*"


class SecretObject:
    """One ``--object secret``.  In one ``from_file`` a newline at the end may be an accident.

    The repr does not show the value.
    """

    __slots__ = ("from_file", "id", "value")

    def __init__(self, id: str, value: bytes, *, from_file: bool) -> None:  # noqa: A002 - QEMU's word
        self.id = id
        self.value = value
        self.from_file = from_file

    @property
    def problem(self) -> str:
        """Why QEMU would not use this secret, or nothing."""
        if is_qemu_text(self.value):
            return ""
        return (
            f"the data of secret '{self.id}' is not valid UTF-8 without NUL, which --object "
            "secret demands; --secret-file takes raw bytes, for an old key that is not UTF-8"
        )


def is_qemu_text(value: bytes) -> bool:
    """Whether QEMU takes ``value`` as a passphrase: UTF-8 and no NUL."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in value


def read_objects(texts: Iterable[str], console: Console) -> dict[str, SecretObject]:
    """The secrets of all ``--object`` options by id, read at once.

    Warns where a passphrase stands on the command line.  Raises CommandError.
    """
    objects: dict[str, SecretObject] = {}
    for text in texts:
        secret = _read_object(text, console)
        if secret.id in objects:
            raise CommandError(f"--object: the id '{secret.id}' is given twice")
        objects[secret.id] = secret
    return objects


def _read_object(text: str, console: Console) -> SecretObject:
    if text.startswith("{"):
        options = parse_object(text, what="--object", texts_only=True)
    else:
        options = parse_options(text, what="--object", implied_key="qom-type")
    kind = options.get("qom-type")
    if kind != "secret":
        _refuse_kind(kind)
    unknown = [key for key in options if key not in _KEYS]
    if unknown:
        # Not shown: it may be the end of a passphrase with a comma in it.
        raise CommandError(
            "--object secret knows id, data, file and format; something else is given "
            "(a comma inside a value is written twice)"
        )
    for key in ("keyid", "iv"):
        if key in options:
            raise CommandError(
                f"--object secret: '{key}' (a secret that is itself encrypted) is not supported "
                "yet; give the passphrase with --secret-file or --secret-fd"
            )
    name = options.get("id")
    if name is None or not re.fullmatch(_ID, name):
        raise CommandError(
            "--object secret needs id=NAME: letters, digits, '-', '.', '_', a letter first"
        )
    return SecretObject(name, _read_value(name, options, console), from_file="file" in options)


def _refuse_kind(kind: str | None) -> None:
    if kind is None:
        raise CommandError("--object needs a type: --object secret,id=NAME,file=PATH")
    if kind in _OTHER_TYPES:
        raise CommandError(f"--object {kind} is not supported yet; supported: secret")
    raise CommandError("--object: unknown type; supported: secret")


def _read_value(name: str, options: dict[str, str], console: Console) -> bytes:
    if ("data" in options) == ("file" in options):
        raise CommandError(f"--object secret '{name}' needs one of data=TEXT and file=PATH")
    if "file" in options:
        value = read_secret_file(options["file"], what=f"--object secret '{name}'")
    else:
        value = options["data"].encode("utf-8", "surrogateescape")
        console.warn(
            f"the passphrase of secret '{name}' stands on the command line, where other users "
            "and the shell history see it; file=PATH and --secret-file keep it out of there"
        )
    encoding = options.get("format", "raw")
    if encoding == "raw":
        return value
    if encoding != "base64":
        raise CommandError(
            f"--object secret '{name}': format is raw or base64, not '{printable(encoding)}'"
        )
    return _decode_base64(name, value, console)


def _decode_base64(name: str, value: bytes, console: Console) -> bytes:
    """Decode as QEMU does, which drops an incomplete last group without a word; we say it."""
    if not re.fullmatch(_BASE64, value):
        raise CommandError(f"--object secret '{name}': the data is not valid base64")
    digits = value.replace(b"\n", b"")
    whole = digits[: len(digits) // 4 * 4]
    if whole != digits:
        console.warn(
            f"the base64 data of secret '{name}' ends inside a group of four characters; the "
            "last group is dropped, as QEMU drops it"
        )
    try:
        return binascii.a2b_base64(whole)
    except binascii.Error:
        raise CommandError(f"--object secret '{name}': the data is not valid base64") from None
