"""Encrypted images for QEMU to work on: empty ones to write to, filled ones to read from.

Legacy AES images are made by this package, which needs no QEMU; LUKS images by an installed
qemu-img, once, since that takes seconds.  Everything lies in one folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import qcow2crypt
from qcow2crypt.errors import ProbeError
from qcow2crypt.tempfolder import temporary_folder

SECRET = "passphrase"
"""Of images that hold nothing but one byte, over and over."""
PATTERN = b"\x5a"
_DISK_SIZE = 1 << 20
_SECONDS = 60
_TRIES = 8
_LOADED = "accurate CPU usage"
"""What qemu-img says when it wanted to measure how fast the processor is, and could not."""
SECRET_OBJECT = ("--object", f"secret,id=s0,data={SECRET}")


class Images:
    """The images of one examination.  A context manager: its end removes them."""

    def __init__(self, qemu_img: str | None, filled: int) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(temporary_folder("qcow2crypt-doctor-"))
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        self._stack.callback(os.close, self._descriptor)
        self._qemu_img = qemu_img
        self._filled = filled

    def __enter__(self) -> Images:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def socket(self) -> Path:
        """A name for a socket in the folder.  Names of sockets have 107 bytes at most."""
        (self.folder / "socket").unlink(missing_ok=True)
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptor}/socket")

    def new(self, name: str, encryption: str, *, filled: bool) -> Path:
        """A copy that may be written to: empty, or with PATTERN in its first bytes."""
        target = self.folder / name
        shutil.copyfile(self._template(encryption, filled=filled), target)
        return target

    def cut(self, size: int) -> Path:
        """An AES image of a disk of ``size`` bytes of PATTERN."""
        path = self.folder / f"cut-{size}"
        options = qcow2crypt.Qcow2Options(encryption="aes", version=2)
        qcow2crypt.convert(
            self.raw(size), path, target_format="qcow2", options=options, target_secret=SECRET
        )
        return path

    def raw(self, size: int) -> Path:
        """``size`` bytes of PATTERN."""
        path = self.folder / f"raw-{size}"
        if not path.exists():
            path.write_bytes(PATTERN * size)
        return path

    @functools.cache  # noqa: B019 - it lives as long as the command
    def _template(self, encryption: str, *, filled: bool) -> Path:
        make = self._aes if encryption == "aes" else self._luks
        path = self.folder / f"{encryption}-{'filled' if filled else 'empty'}"
        make(path, filled)
        return path

    def _aes(self, path: Path, filled: bool) -> None:
        options = qcow2crypt.Qcow2Options(encryption="aes", version=2)
        qcow2crypt.create(path, _DISK_SIZE, secret=SECRET, options=options)
        if filled:
            with qcow2crypt.open(path, mode="r+", secret=SECRET) as disk:
                disk.pwrite(PATTERN * self._filled, 0)

    def _luks(self, path: Path, filled: bool) -> None:
        if self._qemu_img is None:
            raise ProbeError("no LUKS image can be made: there is no qemu-img")
        if filled:
            shutil.copyfile(self._template("luks", filled=False), path)
            self._quietly(
                "convert", *SECRET_OBJECT, "-n", "--target-image-opts", "-f", "raw",
                str(self.raw(self._filled)), image_options(path),
            )  # fmt: skip
        else:
            options = "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"
            self._quietly(
                "create", "-q", *SECRET_OBJECT, "-f", "qcow2", "-o", options, str(path),
                str(_DISK_SIZE),
            )  # fmt: skip

    def _quietly(self, *words: str) -> None:
        """Run qemu-img.  What measures the processor fails under load, so it gets more tries."""
        said = ""
        for _ in range(_TRIES):
            try:
                done = subprocess.run(  # noqa: S603 - an installed qemu-img
                    [self._qemu_img or "", *words],
                    check=False,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    stdin=subprocess.DEVNULL,
                    timeout=_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise ProbeError(f"no LUKS image can be made: {error}") from error
            if not done.returncode:
                return
            said = (done.stderr.strip().splitlines() or ["qemu-img failed"])[-1]
            if _LOADED not in said:
                break
        raise ProbeError(f"no LUKS image can be made: {said}")

    def content(self, path: Path, encryption: str, size: int) -> bytes:
        """The first bytes of the disk of an image, decrypted."""
        if encryption == "aes":
            with qcow2crypt.open(path, secret=SECRET) as disk:
                return bytes(disk.pread(size, 0))
        out = self.folder / "content"
        self._quietly(
            "convert", *SECRET_OBJECT, "--image-opts", "-O", "raw",
            image_options(path, only=size), str(out),
        )  # fmt: skip
        return out.read_bytes()


def image_options(path: Path, only: int = 0) -> str:
    """The image as QEMU takes it with --image-opts; ``only`` shows its first bytes alone."""
    name = str(path).replace(",", ",,")
    if only:
        return (
            f"driver=raw,size={only},file.driver=qcow2,file.encrypt.key-secret=s0,"
            f"file.file.filename={name}"
        )
    return f"driver=qcow2,encrypt.key-secret=s0,file.filename={name}"
