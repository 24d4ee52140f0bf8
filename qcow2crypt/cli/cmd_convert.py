"""``qcow2crypt convert``: copy a guest disk into a new image, decrypting and encrypting."""

from __future__ import annotations

from dataclasses import dataclass

import qcow2crypt
from qcow2crypt.cli.createopts import help_lines, read_create_options, wants_help
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import ImageName, check_encryption, check_format, name_image
from qcow2crypt.cli.objects import SecretObject, read_objects
from qcow2crypt.cli.options import (
    FORCE_SHARE,
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
from qcow2crypt.cli.passphrases import (
    Passphrase,
    PromptedPassphrase,
    check_streams,
    given_passphrase,
)
from qcow2crypt.cli.progress import PROGRESS_OPTIONS, progress, progress_mode
from qcow2crypt.cli.sizes import parse_number, parse_size
from qcow2crypt.cli.targets import (
    CREATE_OPTIONS,
    OLD_ENCRYPTION,
    TargetImage,
    new_image,
    warn_if_name_misleads,
    with_old_encryption,
)
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt convert [options] SOURCE TARGET"
ABOUT = """\
Copy the guest disk of SOURCE into a new image TARGET.  TARGET is raw, or what -O says.  SOURCE is
only read.  TARGET appears when it is whole: after an error there is no half image.  A passphrase
that no option names is asked for on the terminal.

  qcow2crypt convert old.qcow2 disk.raw
  qcow2crypt convert -O qcow2 --secret-file key old.qcow2 plain.qcow2
  qcow2crypt convert -O qcow2 -o encrypt.format=aes --secret-file old.key \\
      --target-secret-file new.key old.qcow2 new.qcow2
  qcow2crypt convert --object secret,id=s0,file=key --image-opts \\
      driver=qcow2,encrypt.key-secret=s0,file.filename=old.qcow2 disk.raw

Legacy AES cannot tell a wrong passphrase: the result is then noise.  convert looks at the start
of the disk and warns when nothing there looks like a disk.
"""
_CACHE_MODES = ("none", "off", "writeback", "writethrough", "directsync", "unsafe")
_SPARSE_MAX = 16 << 20
OPTIONS = (
    source_format("the format of SOURCE; without it the first bytes decide"),
    Option("O", "O", metavar="FMT", about="the format of TARGET: raw (default) or qcow2"),
    CREATE_OPTIONS,
    *secret_options("", "SOURCE"),
    *secret_options("target-", "TARGET"),
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    Option(
        "S",
        "S",
        metavar="SIZE",
        about="leave out runs of zeros of this size (default 4k; 0: store all)",
    ),
    *PROGRESS_OPTIONS,
    QUIET,
    OLD_ENCRYPTION,
    FORCE_SHARE,
    Option("n", "n", about="TARGET exists: keep its size and options, replace its content"),
    Option("target-image-opts", name="target-image-opts", about="as --image-opts, with -n"),
    Option("target-is-zero", name="target-is-zero", about="no effect: zeros cost nothing here"),
    Option("m", "m", metavar="N", about="no effect on the result: how many requests QEMU runs"),
    Option("W", "W", about="no effect on the result: writing is in order"),
    Option("t", "t", metavar="CACHE", about="no effect on the result: QEMU's cache for TARGET"),
    Option("T", "T", metavar="CACHE", about="no effect on the result: QEMU's cache for SOURCE"),
    Option("c", "c", about="refused: compressed clusters cannot be written yet"),
    HELP,
    Option("l", "l", metavar="SNAPSHOT", refused="reading a snapshot"),
    Option("s", "s", metavar="SNAPSHOT", refused="reading a snapshot"),
    Option("B", "B", metavar="FILE", refused="backing files"),
    Option("b", "b", metavar="FILE", refused="backing files"),
    Option("F", "F", metavar="FMT", refused="backing files"),
    Option("r", "r", metavar="RATE", refused="limiting the rate"),
    Option("C", "C", refused="copying inside the storage"),
    Option("bitmaps", name="bitmaps", refused="dirty bitmaps"),
    Option("skip-broken-bitmaps", name="skip-broken-bitmaps", refused="dirty bitmaps"),
    Option("salvage", name="salvage", refused="reading past errors"),
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image that exists, and what opens it."""

    name: ImageName
    secret: Passphrase


def run(arguments: Arguments, console: Console) -> int:
    """Copy the disk.  Raises what the library raises."""
    texts = arguments.all("o")
    if wants_help(texts):
        for line in help_lines(check_format(arguments.last("O") or "raw", what="-O")):
            console.out(line)
        return 0
    sparse_size = _sparse_size(arguments)
    _check_no_effect(arguments)
    mode = progress_mode(arguments)
    source_text, target_text = _two_names(arguments)
    check_streams(arguments)
    objects = read_objects(arguments.all("object"), console)
    if arguments.flag("n"):
        target = _existing_target(target_text, arguments, objects, console)
    else:
        target = _new_target(target_text, arguments, objects, console)
    source = _opened(
        name_image(
            source_text,
            image_opts=arguments.flag("image-opts"),
            given_format=arguments.last("format"),
        ),
        "secret",
        arguments,
        objects,
        console,
    )
    _look_at_source(source, console)
    with progress(mode, "convert") as report:
        qcow2crypt.convert(
            source.name.path,
            target.path,
            source_format=source.name.format,
            target_format=target.format,
            secret=source.secret,
            target_secret=target.secret,
            options=target.options,
            into_existing=arguments.flag("n"),
            sparse_size=sparse_size,
            progress=report,
        )
    return 0


def _new_target(
    text: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> TargetImage:
    """A target that is to be made, from -O and -o."""
    for key in ("target-image-opts", "target-is-zero"):
        if arguments.flag(key):
            raise CommandError(f"--{key} needs -n: it is about a target that exists")
    given_format = arguments.last("O")
    format_name = check_format(given_format or "raw", what="-O")
    texts = with_old_encryption(arguments.all("o"), arguments)
    wanted = read_create_options(texts, format_name)
    _check_compression(arguments, encrypted=wanted.encrypted)
    path = name_image(text, image_opts=False, given_format=None).path
    warn_if_name_misleads(path, given_format, console)
    if wanted.size is not None:
        console.warn("-o size has no effect: the new disk is as large as the source")
    return new_image(path, wanted, arguments, ("target-secret",), objects=objects, console=console)


def _existing_target(
    text: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> TargetImage:
    """A target that exists (-n), from its own options or -O."""
    if arguments.flag("o") or arguments.flag("e"):
        raise CommandError("-o has no effect on an image that exists (-n): leave it out")
    _check_compression(arguments, encrypted=False)
    image_opts = arguments.flag("target-image-opts")
    given_format = arguments.last("O")
    name = name_image(
        text,
        image_opts=image_opts,
        given_format=given_format if image_opts else given_format or "raw",
    )
    if name.read_only:
        raise CommandError(f"'{name.shown}' is the target, but read-only=on is given")
    opened = _opened(name, "target-secret", arguments, objects, console)
    found = name.format or qcow2crypt.info(name.path).format
    format_name = check_format(found, what="the target's format")
    if not image_opts:
        warn_if_name_misleads(name.path, given_format, console)
    return TargetImage(name.path, format_name, None, opened.secret)


def _opened(
    name: ImageName,
    prefix: str,
    arguments: Arguments,
    objects: dict[str, SecretObject],
    console: Console,
) -> _Opened:
    """Join an image that exists with its passphrase; without one it will be asked for."""
    given = given_passphrase(
        arguments, (prefix,), key_secret=name.key_secret, objects=objects, console=console
    )
    if name.encrypt_format is not None:
        check_encryption(name, qcow2crypt.info(name.path, format=name.format).encryption)
    prompt = PromptedPassphrase(
        name.shown, f"--{prefix}", new=False, console=console, objects=objects
    )
    return _Opened(name, given or prompt)


def _two_names(arguments: Arguments) -> tuple[str, str]:
    """Source and target.  Raises UsageError, and CommandError for several sources."""
    if len(arguments.operands) < 2:
        raise UsageError("convert takes two names: the image to read and the image to write")
    if len(arguments.operands) > 2:
        raise CommandError("convert with several sources is not supported yet: give one")
    source, target = arguments.operands
    return source, target


def _look_at_source(source: _Opened, console: Console) -> None:
    """Open the source once before the work: a wrong passphrase should be seen now, not at the end.

    Raises what opening raises.  What reading raises is left to the conversion, which says where.
    """
    from qcow2crypt.errors import Qcow2CryptError
    from qcow2crypt.plausible import look_at

    with qcow2crypt.open(source.name.path, source.secret, format=source.name.format) as image:
        if console.quiet or image.info().encryption is None:
            return
        try:
            look = look_at(image)
        except Qcow2CryptError:
            return
    if not look.plausible:
        console.warn(
            f"with this passphrase '{source.name.shown}' does not look like a disk: no partition "
            "table, no file system, nothing but noise. Legacy AES cannot tell a wrong passphrase: "
            "compare it letter by letter, look for a newline at its end or another keyboard "
            "layout. (A disk that the guest itself encrypted looks like this too)"
        )


def _sparse_size(arguments: Arguments) -> int:
    """The value of -S.  Raises CommandError."""
    text = arguments.last("S")
    if text is None:
        return 4096
    size = parse_size(text, what="-S")
    if size % 512 or size > _SPARSE_MAX:
        raise CommandError(f"-S is a multiple of 512 from 0 to {_SPARSE_MAX} bytes")
    return size


def _check_no_effect(arguments: Arguments) -> None:
    """Values of options without effect must still be ones that qemu-img takes."""
    for value in arguments.all("m"):
        parse_number(value, what="-m", smallest=1, largest=16)
    for key in ("t", "T"):
        for value in arguments.all(key):
            if value not in _CACHE_MODES:
                raise CommandError(f"-{key} is one of {', '.join(_CACHE_MODES)}")


def _check_compression(arguments: Arguments, *, encrypted: bool) -> None:
    if not arguments.flag("c"):
        return
    if encrypted:
        raise CommandError(
            "-c: compression and encryption are not supported at the same time, nor are they by "
            "qemu-img; leave one of them out"
        )
    raise CommandError("-c: compressed clusters cannot be written yet; leave it out")
