"""QEMU's own tools as a witness: thin, typed calls of qemu-img and qemu-io.

Knows their command lines and nothing of this package.  Every failure carries the command, the
exit status, what stood on stderr and the version, so a report from CI can be read alone.
Follows the manuals qemu-img(1) and qemu(1), "Block device options" and "Secret objects".

The passphrases here belong to throw-away images: they go on the command line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = Mapping[str, str | int | bool]
TIMEOUT = 120  # seconds for one command

# To make a LUKS header QEMU times its own key derivation.  On some machines its clock is too coarse
# for that, at random, and it gives up with these words; the same command then works a little later.
UNLUCKY = "Unable to get accurate CPU usage"
TRIES = 50


class QemuError(AssertionError):
    """A QEMU tool did not do what the test asked for."""

    def __init__(self, done: subprocess.CompletedProcess[str], version: str) -> None:
        self.returncode = done.returncode
        self.stdout, self.stderr = done.stdout, done.stderr
        super().__init__(
            f"exit status {done.returncode} of: {' '.join(done.args)}\n"
            f"stdout: {done.stdout.strip() or '(empty)'}\n"
            f"stderr: {done.stderr.strip() or '(empty)'}\n"
            f"qemu-img version {version}"
        )


@dataclass(frozen=True, slots=True)
class Disk:
    """One image: where it is, its format, and the passphrase if it is encrypted.

    ``secret_file`` names a file that holds the passphrase, in place of ``passphrase``: QEMU
    takes only UTF-8 on the command line, and a file of any bytes.
    """

    path: Path
    driver: str = "qcow2"
    passphrase: str | None = field(default=None, repr=False)
    secret_file: Path | None = None

    @property
    def encrypted(self) -> bool:
        """Does it need a passphrase?"""
        return self.passphrase is not None or self.secret_file is not None

    def secret(self, name: str) -> list[str]:
        """The ``--object`` arguments that hand over the passphrase under ``name``."""
        if self.secret_file is not None:
            return ["--object", f"secret,id={name},file={escape(str(self.secret_file))}"]
        if self.passphrase is not None:
            return ["--object", f"secret,id={name},data={escape(self.passphrase)}"]
        return []

    def options(self, name: str) -> str:
        """What ``--image-opts`` takes, with the secret that goes by ``name``."""
        key = f"encrypt.key-secret={name}," if self.encrypted else ""
        return f"driver={self.driver},{key}file.filename={escape(str(self.path))}"


def escape(value: str) -> str:
    """Double the commas: a single one would end the option."""
    return value.replace(",", ",,")


@dataclass(frozen=True, slots=True)
class QemuImg:
    """qemu-img and qemu-io of one version."""

    img: str
    io: str
    version: str

    @classmethod
    def find(cls) -> QemuImg | None:
        """The tools on PATH, or None where one of the two is missing."""
        img, io = shutil.which("qemu-img"), shutil.which("qemu-io")
        if img is None or io is None:
            return None
        text = subprocess.run([img, "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"version (\S+)", text)
        return cls(img, io, found[1] if found else text.strip())

    def run(self, *args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run qemu-img with ``args``.  Raises QemuError for any exit status but 0, if ``check``."""
        return self._run(self.img, *args, check=check)

    def create(self, disk: Disk, size: int, options: Options | None = None) -> None:
        """Make an empty image of ``size`` guest bytes, encrypted if ``disk`` has a passphrase."""
        creation = _creation(disk, options or {})
        self.run(
            "create", "-q", *disk.secret("new"), "-f", disk.driver, *creation, disk.path, str(size)
        )

    def convert(
        self, source: Disk, target: Disk, options: Options | None = None, *extra: str
    ) -> None:
        """Copy ``source`` into a new image; ``extra`` are more arguments, such as ``-S 0``."""
        secrets = source.secret("old") + target.secret("new")
        creation = ["-O", target.driver, *_creation(target, options or {})]
        opts = ["--image-opts", source.options("old")]
        self.run("convert", *secrets, *creation, *extra, *opts, target.path)

    def info(self, disk: Disk) -> dict[str, Any]:
        """What ``qemu-img info`` tells.  Needs no passphrase."""
        return dict(self._json("info", "-f", disk.driver, disk.path))

    def check(self, disk: Disk) -> dict[str, Any]:
        """What ``qemu-img check`` tells.  Errors and leaks are in the answer, not raised."""
        return dict(self._json("check", *disk.secret("old"), *self._opts(disk), ok=(0, 2, 3)))

    def map(self, disk: Disk) -> list[dict[str, Any]]:
        """The extents that ``qemu-img map`` sees."""
        return list(self._json("map", *disk.secret("old"), *self._opts(disk)))

    def compare(self, first: Disk, second: Disk) -> bool:
        """Do the two hold the same guest bytes?"""
        secrets = first.secret("old") + second.secret("new")
        names = ["--image-opts", first.options("old"), second.options("new")]
        done = self.run("compare", *secrets, *names, check=False)
        if done.returncode not in {0, 1}:
            raise QemuError(done, self.version)
        return done.returncode == 0

    def qemu_io(self, disk: Disk, commands: Sequence[str], *, check: bool = True) -> str:
        """Run qemu-io commands on ``disk`` and give what they print.

        ``read -P`` that finds another pattern raises QemuError, as every failed command does.
        """
        script = [part for command in commands for part in ("-c", command)]
        return self._run(
            self.io, *disk.secret("old"), *script, *self._opts(disk), check=check
        ).stdout

    def run_io(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run qemu-io with words of its own; look at the exit status."""
        return self._run(self.io, *args, check=False)

    def _opts(self, disk: Disk) -> list[str]:
        return ["--image-opts", disk.options("old")]

    def _json(self, command: str, *args: str | Path, ok: Sequence[int] = (0,)) -> Any:  # noqa: ANN401
        done = self.run(command, "--output=json", *args, check=False)
        if done.returncode not in ok:
            raise QemuError(done, self.version)
        return json.loads(done.stdout)

    def _run(
        self, program: str, *args: str | Path, check: bool
    ) -> subprocess.CompletedProcess[str]:
        for _ in range(TRIES):
            done = subprocess.run(
                [program, *map(str, args)],
                check=False,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
            if UNLUCKY not in done.stderr:
                break
        if check and done.returncode != 0:
            raise QemuError(done, self.version)
        return done


def _creation(disk: Disk, options: Options) -> list[str]:
    """The ``-o`` arguments of a new image; encrypted means legacy AES if not told otherwise."""
    wanted = dict(options)
    if disk.encrypted:
        wanted.setdefault("encrypt.format", "aes")
        wanted["encrypt.key-secret"] = "new"
    words = {True: "on", False: "off"}
    pairs = (
        f"{key}={words[value] if isinstance(value, bool) else escape(str(value))}"
        for key, value in wanted.items()
    )
    return [part for pair in pairs for part in ("-o", pair)]
