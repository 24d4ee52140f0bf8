"""QEMU's own programs as a witness, and as the maker of LUKS images.

Knows the command lines of qemu-img and the passphrases of the lab, which are no secrets: they stand
on command lines.  What is asked of QEMU is always a file that it opens by itself.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.bench.programs import told
from qcow2crypt.errors import BenchError, LabError
from qcow2crypt.lab.modes import PASSPHRASE

_TRIES = 20
_LOADED = "accurate CPU usage"
"""What qemu-img says when it wanted to measure how fast the processor is, and could not."""
_REFUSED = "Invalid password"
_VERSION = re.compile(r"version (\S+)")


class Qemu(NamedTuple):
    """qemu-img, as found on PATH."""

    img: str
    version: str

    @classmethod
    def find(cls) -> Qemu | None:
        """None where it is not installed.  Raises LabError where it cannot be run."""
        img = shutil.which("qemu-img")
        if img is None:
            return None
        try:
            found = _VERSION.search(told([img, "--version"]))
        except BenchError as error:
            raise LabError(f"{error}; --no-qemu leaves out what needs it") from error
        return cls(img, found[1] if found else "of an unknown version")

    def read(self, image: Path, passphrase: str = PASSPHRASE, snapshot: str | None = None) -> bytes:
        """The whole guest disk, as qemu-img reads it.  Raises LabError."""
        out = image.with_suffix(".qemu-read")
        words = [] if snapshot is None else ["-l", snapshot]
        self._run("convert", _secret(passphrase), *words, "-O", "raw", *_source(image), str(out))
        data = out.read_bytes()
        out.unlink()
        return data

    def refuses(self, image: Path, passphrase: str) -> bool:
        """Whether it says that the passphrase is wrong.  Raises LabError for any other failure."""
        try:
            self.read(image, passphrase)
        except LabError as error:
            if _REFUSED in str(error):
                return True
            raise
        return False

    def sound(self, image: Path, passphrase: str = PASSPHRASE) -> bool:
        """Whether ``qemu-img check`` finds no errors and no leaks."""
        try:
            self._run("check", "-q", _secret(passphrase), *_source(image))
        except LabError:
            return False
        return True

    def make_aes(self, raw: Path, target: Path, passphrase: str = PASSPHRASE) -> None:
        """Convert a raw disk into a legacy AES image."""
        wanted = "encrypt.format=aes,encrypt.key-secret=s0"
        self._run(
            "convert", _secret(passphrase), "-f", "raw", "-O", "qcow2", "-o", wanted, str(raw),
            str(target),
        )  # fmt: skip

    def create_luks(self, target: Path, size: int, passphrase: str, mode: str) -> None:
        """An empty LUKS image; ``mode`` is that of the cipher, ``xts`` or ``ecb``.

        The slow hash of the passphrase is made as fast as it can be: this is no image to keep.
        """
        wanted = (
            f"encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=0,"
            f"encrypt.cipher-mode={mode}"
        )
        self._run(
            "create", "-q", _secret(passphrase), "-f", "qcow2", "-o", wanted, str(target),
            str(size),
        )  # fmt: skip

    def write(self, raw: Path, target: Path, passphrase: str = PASSPHRASE) -> None:
        """Write a raw disk into an image that exists and is as large or larger."""
        self._run(
            "convert", _secret(passphrase), "-n", "--target-image-opts", "-f", "raw", str(raw),
            _options(target),
        )  # fmt: skip

    def snapshot(self, image: Path, name: str) -> None:
        """Make an internal snapshot."""
        self._run("snapshot", "-c", name, _secret(PASSPHRASE), *_source(image))

    def _run(self, verb: str, *words: str) -> None:
        said = ""
        for _ in range(_TRIES):
            try:
                told([self.img, verb, *words])
            except BenchError as error:
                said = str(error)
                if _LOADED in said:
                    continue
                break
            return
        raise LabError(
            f"QEMU could not do its part: {said.removeprefix(self.img).strip()}; "
            "--no-qemu leaves it out"
        )


def _secret(passphrase: str) -> str:
    return f"--object=secret,id=s0,data={passphrase.replace(',', ',,')}"


def _source(image: Path) -> tuple[str, str]:
    return "--image-opts", _options(image)


def _options(image: Path) -> str:
    name = str(image).replace(",", ",,")
    return f"driver=qcow2,encrypt.key-secret=s0,file.filename={name}"


def line(program: str, *words: str, image: str, passphrase: str = PASSPHRASE) -> str:
    """A command for a person to try in the folder with the files, quoted for a shell.

    >>> line("qemu-img", "check", image="disk.qcow2")  # doctest: +NORMALIZE_WHITESPACE
    'qemu-img check --object secret,id=s0,data=open-sesame --image-opts
    driver=qcow2,encrypt.key-secret=s0,file.filename=disk.qcow2'
    """
    secret = ("--object", f"secret,id=s0,data={passphrase}")
    return shlex.join((program, *words, *secret, "--image-opts", _options(Path(image))))


def io_line(*commands: str, image: str, passphrase: str = PASSPHRASE) -> str:
    """The same for qemu-io, with commands of its own."""
    script = (part for command in commands for part in ("-c", command))
    return line("qemu-io", "-r", *script, image=image, passphrase=passphrase)
