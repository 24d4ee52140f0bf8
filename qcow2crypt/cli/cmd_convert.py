"""``qcow2crypt convert``: copy a guest disk into a new image, decrypting and encrypting."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import qcow2crypt
from qcow2crypt.cli.convertflags import bitmaps_wanted, check_flags, tell_what_is_missing
from qcow2crypt.cli.convertstreams import (
    STREAM,
    check_input,
    from_stdin,
    stdin_image,
    to_stdout,
)
from qcow2crypt.cli.createopts import (
    help_lines,
    read_create_options,
    wants_help,
    with_backing,
)
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import ImageName, check_encryption, check_format, name_image
from qcow2crypt.cli.manner import MANNER_OPTIONS, read_manner
from qcow2crypt.cli.objects import SecretObject, read_objects
from qcow2crypt.cli.opening import Keyring, external_of, snapshot_of, told_if_cut_short
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
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
from qcow2crypt.cli.resume import RESUME, check_resume, telling_left_over
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.sources import look_at_source
from qcow2crypt.cli.targets import (
    CREATE_OPTIONS,
    OLD_ENCRYPTION,
    TargetImage,
    new_image,
    warn_if_name_misleads,
    with_old_encryption,
)
from qcow2crypt.cli.terminal import Console
from qcow2crypt.image.names import LayerOptions

if TYPE_CHECKING:
    from qcow2crypt import Image
    from qcow2crypt.tasks.refilling import Existing

USAGE = "qcow2crypt convert [options] SOURCE... TARGET"
ABOUT = """\
Copy the guest disk of SOURCE into a new image TARGET.  TARGET is raw, or what -O says.  SOURCE is
only read, with all its backing files.  TARGET appears when it is whole: after an error there is no
half image.  Several sources become one disk.  A SOURCE of - is a raw disk from standard input, a
TARGET of - standard output, which gets a raw disk as it comes.  A block device as TARGET is written
in place.  A passphrase that no option names is asked for on the terminal.

  qcow2crypt convert old.qcow2 disk.raw
  qcow2crypt convert -O qcow2 --secret-file key old.qcow2 plain.qcow2
  qcow2crypt convert -O qcow2 -o encrypt.format=aes --secret-file old.key \\
      --target-secret-file new.key old.qcow2 new.qcow2
  qcow2crypt convert --object secret,id=s0,file=key --image-opts \\
      driver=qcow2,encrypt.key-secret=s0,file.filename=old.qcow2 disk.raw

Legacy AES cannot tell a wrong passphrase: the result is then noise.  convert looks at the start
of the disk and warns when nothing there looks like a disk.
"""
_SPARSE_MAX = 16 << 20
OPTIONS = (
    source_format("the format of SOURCE; without it the first bytes decide"),
    Option("O", "O", metavar="FMT", about="the format of TARGET: raw (default) or qcow2"),
    CREATE_OPTIONS,
    *secret_options("", "SOURCE"),
    *CHAIN_OPTIONS,
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
    Option("n", "n", about="TARGET exists: replace its content, keep all else that it has"),
    Option("target-image-opts", name="target-image-opts", about="as --image-opts, with -n"),
    Option("target-is-zero", name="target-is-zero", about="no effect: zeros cost nothing here"),
    *MANNER_OPTIONS,
    RESUME,
    Option("C", "C", about="no effect on the disk: QEMU lets the storage copy; not with -c, -S"),
    Option("verify", name="verify", about="read TARGET again, compare, and print a SHA-256"),
    Option("c", "c", about="compress clusters (qcow2, not encrypted)"),
    Option(
        "l",
        "l",
        metavar="SNAPSHOT",
        about="an internal snapshot: id, name, snapshot.id=ID or snapshot.name=NAME",
    ),
    Option(
        "wrong-iv",
        name="wrong-iv",
        about="put sectors right that QEMU 2.7.0 encrypted wrongly (a guess)",
    ),
    Option(
        "raw-zeros",
        name="raw-zeros",
        about="read encrypted sectors that were only preallocated as zeros",
    ),
    Option("salvage", name="salvage", about="zeros for what cannot be read of SOURCE; warn"),
    Option("bitmaps", name="bitmaps", about="copy the dirty bitmaps of SOURCE (qcow2 to qcow2)"),
    Option(
        "skip-broken-bitmaps",
        name="skip-broken-bitmaps",
        about="leave out bitmaps that are inconsistent, with a warning",
    ),
    Option(
        "B",
        "B",
        metavar="FILE",
        about="TARGET gets (with -n: has) this backing file, and what differs",
    ),
    Option("b", "b", metavar="FILE", about="old word for -B"),
    Option("F", "F", metavar="FMT", about="the format of the backing file; -B needs it"),
    HELP,
    Option("s", "s", metavar="SNAPSHOT", refused="an old word for -l"),
)


def run(arguments: Arguments, console: Console) -> int:
    """Copy the disk.  Raises what the library raises."""
    texts = arguments.all("o")
    if wants_help(texts):
        for line in help_lines(check_format(arguments.last("O") or "raw", what="-O")):
            console.out(line)
        return 0
    sparse_size = _sparse_size(arguments)
    manner = read_manner(arguments)
    check_flags(arguments)
    mode = progress_mode(arguments)
    source_texts, target_text = _names(arguments)
    check_streams(arguments)
    objects = read_objects(arguments.all("object"), console)
    from_pipe = check_input(source_texts, target_text, arguments)
    check_resume(arguments, streams=STREAM in (target_text, *source_texts))
    if target_text == STREAM:
        return to_stdout(
            lambda stack: _open_sources(source_texts, arguments, objects, console, stack),
            arguments,
            manner,
        )
    if arguments.flag("n"):
        size = None
        target, options = _existing_target(target_text, arguments, objects, console)
    else:
        target, size = _new_target(target_text, arguments, objects, console)
        options = LayerOptions()
        if size is not None and not from_pipe:
            console.warn("-o size has no effect: the new disk is as large as the source")
    if from_pipe:
        return from_stdin(
            target,
            arguments,
            console,
            size=size,
            sparse_size=sparse_size,
            manner=manner,
        )
    from qcow2crypt.tasks.conversion import convert_images

    existing = _existing(arguments, options) if arguments.flag("n") else None

    with ExitStack() as stack:
        images = _open_sources(source_texts, arguments, objects, console, stack)
        backing = Keyring(ImageName("", ""), arguments, objects, console, only_names=True)
        with (
            telling_left_over(target.path, arguments, console),
            progress(mode, "convert") as report,
        ):
            result = convert_images(
                images,
                target.path,
                target_format=target.format,
                target_secret=target.secret,
                options=target.options,
                sparse_size=sparse_size,
                progress=report,
                compress=arguments.flag("c"),
                backing_secret=backing,
                existing=existing,
                manner=manner,
                watched=not arguments.flag("force-share"),
                bitmaps=bitmaps_wanted(arguments),
                salvage=arguments.flag("salvage"),
                resume=arguments.flag("resume"),
            )
        tell_what_is_missing(result, console)
        if arguments.flag("verify"):
            _verify(images, target, arguments, console, manner.threads)
    return 0


def _existing(arguments: Arguments, options: LayerOptions) -> Existing:
    """What is said of a target that exists."""
    from qcow2crypt.tasks.refilling import Existing

    base = arguments.last("B") or arguments.last("b")
    backing = None if base is None else (base, arguments.last("F"))
    return Existing(options, external_of(arguments), backing)


def _verify(
    images: list[Image],
    target: TargetImage,
    arguments: Arguments,
    console: Console,
    threads: int | None,
) -> None:
    """Read the target again, as any reader would.  Raises TargetError."""
    from qcow2crypt.tasks.verification import verify

    with (
        qcow2crypt.open(
            target.path,
            target.secret,
            format=target.format,
            external=external_of(arguments),
        ) as image,
        progress(progress_mode(arguments), "verify") as report,
    ):
        digest = verify(images, image, progress=report, threads=threads)
    console.out(f"verified: the target holds the disk of the source, SHA-256 {digest}")


def _open_sources(
    texts: tuple[str, ...],
    arguments: Arguments,
    objects: dict[str, SecretObject],
    console: Console,
    stack: ExitStack,
) -> list[Image]:
    images = [stack.enter_context(_source(t, arguments, objects, console)) for t in texts]
    for image in images:
        look_at_source(image, console)
    return images


def _source(
    text: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> Image:
    from qcow2crypt.image import Reading, open_layers

    if text == STREAM:
        return stdin_image()
    name = name_image(
        text,
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    image = open_layers(
        name.path,
        Keyring(name, arguments, objects, console),
        options=name.options,
        reading=Reading(
            raw_zeros="zeros" if arguments.flag("raw-zeros") else "decrypt",
            wrong_iv="qemu-2.7.0" if arguments.flag("wrong-iv") else None,
        ),
        snapshot=snapshot_of(arguments.last("l"), name, arguments),
        external=external_of(arguments),
        force_share=arguments.flag("force-share"),
    )
    return told_if_cut_short(image, console)


def _new_target(
    text: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> tuple[TargetImage, int | None]:
    """A target that is to be made, from -O and -o; and the size that -o names."""
    for key in ("target-image-opts", "target-is-zero"):
        if arguments.flag(key):
            raise CommandError(f"--{key} needs -n: it is about a target that exists")
    given_format = arguments.last("O")
    format_name = check_format(given_format or "raw", what="-O")
    texts = with_old_encryption(arguments.all("o"), arguments)
    wanted = with_backing(
        read_create_options(texts, format_name),
        arguments.last("B") or arguments.last("b"),
        arguments.last("F"),
        option="-F" if arguments.last("F") else "-B",
    )
    if wanted.backing is not None and wanted.backing[1] is None:
        raise CommandError("-B needs the format of the backing file: -F FMT")
    if arguments.flag("c") and wanted.encrypted:
        raise CommandError(
            "-c: compression and encryption are not supported at the same time, nor are they by "
            "qemu-img; leave one of them out"
        )
    if arguments.flag("c") and format_name == "raw":
        raise CommandError("-c: a raw image cannot hold compressed clusters; add -O qcow2")
    path = name_image(text, image_opts=False, given_format=None).path
    warn_if_name_misleads(path, given_format, console)
    image = new_image(path, wanted, arguments, ("target-secret",), objects=objects, console=console)
    return image, wanted.size


def _existing_target(
    text: str, arguments: Arguments, objects: dict[str, SecretObject], console: Console
) -> tuple[TargetImage, LayerOptions]:
    """A target that exists (-n), from its own options or -O; and what is said of its layers."""
    if arguments.flag("o") or arguments.flag("e"):
        raise CommandError("-o has no effect on an image that exists (-n): leave it out")
    has_base = arguments.flag("B") or arguments.flag("b")
    if arguments.flag("F") and not has_base:
        raise CommandError("-F is the format of the backing file that -B names: add -B")
    if has_base and arguments.flag("target-is-zero"):
        raise CommandError(
            "--target-is-zero cannot be: with -B the target shows what its backing file has"
        )
    image_opts = arguments.flag("target-image-opts")
    given_format = arguments.last("O")
    name = name_image(
        text,
        image_opts=image_opts,
        given_format=given_format if image_opts else given_format or "raw",
    )
    if name.read_only:
        raise CommandError(f"'{name.shown}' is the target, but read-only=on is given")
    given = given_passphrase(
        arguments,
        ("target-secret",),
        key_secret=name.key_secret,
        objects=objects,
        console=console,
    )
    secret: Passphrase = given or PromptedPassphrase(
        name.shown, "--target-secret", new=False, console=console, objects=objects
    )
    # Shared: whether it is in use is asked, and told, when it is opened for writing.
    about = qcow2crypt.info(name.path, format=name.format, force_share=True)
    check_encryption(name, about.encryption)
    format_name = check_format(name.format or about.format, what="the target's format")
    if not image_opts:
        warn_if_name_misleads(name.path, given_format, console)
    return TargetImage(name.path, format_name, None, secret), name.options


def _names(arguments: Arguments) -> tuple[tuple[str, ...], str]:
    """Sources and target.  Raises UsageError."""
    if len(arguments.operands) < 2:
        raise UsageError("convert takes two names: the image to read and the image to write")
    return arguments.operands[:-1], arguments.operands[-1]


def _sparse_size(arguments: Arguments) -> int:
    """The value of -S.  Raises CommandError."""
    text = arguments.last("S")
    if text is None:
        return 4096
    size = parse_size(text, what="-S")
    if size % 512 or size > _SPARSE_MAX:
        raise CommandError(f"-S is a multiple of 512 from 0 to {_SPARSE_MAX} bytes")
    return size
