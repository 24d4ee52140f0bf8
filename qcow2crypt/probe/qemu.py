"""Work for the programs of QEMU: write and read an encrypted image of a known size.

Knows the command lines of qemu-img, qemu-io, qemu-nbd and qemu-system, no tracing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.errors import ProbeError, Qcow2CryptError
from qcow2crypt.probe.examine import Run, Work
from qcow2crypt.probe.images import PATTERN, SECRET, SECRET_OBJECT, Images, image_options
from qcow2crypt.probe.nbdclient import transfer

ENCRYPT, DECRYPT = "encrypt", "decrypt"
_SECONDS = 20
_VERSION = re.compile(
    r"^(?:\S*/)?(qemu-img|qemu-io|qemu-nbd|QEMU emulator)(?: version)? (\d+)\.(\d+)\S*.*"
)
_NEW_OPTIONS = (2, 10)
"""The first version that takes a passphrase by --object for AES images."""
_WANTED = re.compile(r"qemu-(img|io|nbd|system-\w+)")


class Binary(NamedTuple):
    """A program of QEMU: ``kind`` is img, io, nbd or system, ``text`` what it says of itself."""

    path: str
    kind: str
    version: tuple[int, int]
    text: str


def on_path() -> list[str]:
    """Every qemu-img, qemu-io, qemu-nbd and qemu-system on PATH, each file once."""
    found: dict[tuple[int, int], str] = {}
    for folder in os.get_exec_path():
        for name in sorted(_names(folder)):
            path = Path(folder) / name
            if _WANTED.fullmatch(name) and os.access(path, os.X_OK) and path.is_file():
                status = path.stat()
                found.setdefault((status.st_dev, status.st_ino), str(path))
    return list(found.values())


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names alone
    except OSError:
        return []


def identify(name: str) -> Binary:
    """Which program of QEMU it is, by what it says.  Raises ProbeError where it is none."""
    path = shutil.which(name)
    if path is None:
        raise ProbeError(f"there is no program '{name}'")
    path = os.path.abspath(path)  # noqa: PTH100 - links stay: a name may choose what is done
    try:
        done = subprocess.run(  # noqa: S603 - what the user asked to examine
            [path, "--version"],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProbeError(f"'{path} --version' cannot be run: {error}") from error
    if done.returncode < 0:
        raise ProbeError(f"'{path} --version' crashed: signal {-done.returncode}")
    line = next(iter(done.stdout.splitlines()), "")
    found = _VERSION.match(line)
    if found is None:
        raise ProbeError(
            f"'{path}' does not say that it is a program of QEMU; for any other program: "
            "qcow2crypt doctor -- COMMAND"
        )
    kind = "system" if found[1] == "QEMU emulator" else found[1].partition("-")[2]
    return Binary(path, kind, (int(found[2]), int(found[3])), line.strip())


def beside(path: str) -> str | None:
    """The qemu-img that belongs to a program: in its folder, or on PATH."""
    near = Path(path).with_name("qemu-img")
    return str(near) if os.access(near, os.X_OK) else shutil.which("qemu-img")


def works(binary: Binary, images: Images, encryption: str) -> Iterator[tuple[str, Work]]:
    """The two directions, by their names.  Raises ProbeError where it cannot do them."""
    if binary.kind == "system" and encryption == "aes":
        raise ProbeError("system emulators refuse AES images, since 2016")
    if binary.version < _NEW_OPTIONS:
        if binary.kind != "img" or encryption != "aes":
            raise ProbeError(f"QEMU {binary.version[0]}.{binary.version[1]} is too old for this")
        yield ENCRYPT, lambda size: _old_encrypt(binary, images, size)
        yield DECRYPT, lambda size: _old_decrypt(binary, images, size)
        return
    images.new("probe", encryption, filled=True)  # cannot be made?  then say so at once
    make: Callable[[Binary, Images, str, int, str], Run] = _MAKERS[binary.kind]
    yield ENCRYPT, lambda size: make(binary, images, encryption, size, ENCRYPT)
    yield DECRYPT, lambda size: make(binary, images, encryption, size, DECRYPT)


def _img(binary: Binary, images: Images, encryption: str, size: int, direction: str) -> Run:
    if direction == ENCRYPT:
        target = images.new("target", encryption, filled=False)
        words = ("-n", "--target-image-opts", "-f", "raw", str(images.raw(size)))
        return Run(
            (binary.path, "convert", *SECRET_OBJECT, *words, image_options(target)),
            reads=str(images.raw(size)),
            check=lambda: _compare(images, target, encryption, size),
        )
    source = images.new("source", encryption, filled=True)
    out = images.folder / "out"
    options = image_options(source, only=size)
    return Run(
        (binary.path, "convert", *SECRET_OBJECT, "--image-opts", "-O", "raw", options, str(out)),
        reads=str(source),
        check=lambda: _holds(out, size),
    )


def _io(binary: Binary, images: Images, encryption: str, size: int, direction: str) -> Run:
    image = images.new("image", encryption, filled=direction == DECRYPT)
    verb = "write" if direction == ENCRYPT else "read"
    command = f"{verb} -P {PATTERN[0]:#x} 0 {size}"
    words = (*SECRET_OBJECT, "--image-opts", "-c", command, image_options(image))
    return Run(
        (binary.path, *words),
        reads=str(image),
        check=lambda: _compare(images, image, encryption, size),
    )


def _nbd(binary: Binary, images: Images, encryption: str, size: int, direction: str) -> Run:
    image = images.new("image", encryption, filled=direction == DECRYPT)
    line = images.socket()

    def client(ended: threading.Event) -> None:
        if direction == ENCRYPT:
            transfer(line, ended, write=PATTERN * size)
        else:
            transfer(line, ended, read=size)

    words = (*SECRET_OBJECT, "--image-opts", "-k", str(line), image_options(image))
    return Run(
        (binary.path, *words),
        reads=str(image),
        meanwhile=client,
        check=lambda: _compare(images, image, encryption, size),
    )


def _system(binary: Binary, images: Images, encryption: str, size: int, direction: str) -> Run:
    image = images.new("image", encryption, filled=direction == DECRYPT)
    verb = "write" if direction == ENCRYPT else "read"
    command = f'qemu-io disk "{verb} -P {PATTERN[0]:#x} 0 {size}"\nquit\n'
    machine = ("-machine", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio")
    secret = ("-object", SECRET_OBJECT[1])
    format_words = f"encrypt.format={encryption},file.driver=file"
    blockdev = ("-blockdev", f"node-name=disk,{image_options(image)},{format_words}")
    return Run(
        (binary.path, *machine, *secret, *blockdev),
        stdin=command.encode(),
        reads=str(image),
        check=lambda: _compare(images, image, encryption, size),
    )


_MAKERS = {"img": _img, "io": _io, "nbd": _nbd, "system": _system}
_WRONG = "the result is not what was put in"


def _old_encrypt(binary: Binary, images: Images, size: int) -> Run:
    """Before 2.10: the passphrase is read from standard input, up to a carriage return."""
    target = images.folder / "target"
    words = ("convert", "-f", "raw", "-O", "qcow2", "-o", "encryption=on", str(images.raw(size)))
    return Run(
        (binary.path, *words, str(target)),
        stdin=f"{SECRET}\r".encode(),
        check=lambda: _compare(images, target, "aes", size),
    )


def _old_decrypt(binary: Binary, images: Images, size: int) -> Run:
    source = images.cut(size)
    out = images.folder / "out"
    return Run(
        (binary.path, "convert", "-f", "qcow2", "-O", "raw", str(source), str(out)),
        stdin=f"{SECRET}\r".encode(),
        check=lambda: _holds(out, size),
    )


def _holds(path: Path, size: int) -> str:
    try:
        right = path.read_bytes() == PATTERN * size
    except OSError as error:
        return f"the result cannot be read: {error}"
    return "" if right else _WRONG


def _compare(images: Images, path: Path, encryption: str, size: int) -> str:
    try:
        right = images.content(path, encryption, size) == PATTERN * size
    except (Qcow2CryptError, OSError) as error:
        return f"the result cannot be read: {error}"
    return "" if right else _WRONG
