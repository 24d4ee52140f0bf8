"""One command line, two programs: qemu-img and ours; and what to say when they differ.

A ``Case`` is one comparison.  It has a folder of its own, which is removed afterwards, and it
remembers every command that was run in it: a difference is reported with these, the version of
qemu-img and the first place that differs, so that a report from CI can be read alone.
Knows command lines and files; takes the words of qemu-img(1) and nothing of this package but
its ``main``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeAlias

from oracles.qemu_img import Disk, QemuImg, escape
from support.differential_locate import place_of

import qcow2crypt
from qcow2crypt.cli import main

SECTOR = 512
NewCase: TypeAlias = "Callable[[], Case]"
PASSPHRASE = "correct horse battery"  # 21 bytes: only 16 of them count
Word: TypeAlias = "str | Path"


class Difference(AssertionError):
    """qemu-img and we do not agree."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Target:
    """A new image in the words of the command line.  ``passphrase`` not None asks for AES."""

    driver: str = "qcow2"
    cluster_size: int = 65536
    version: int = 3
    passphrase: str | None = None
    more: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """The ``--object`` and ``-o`` words."""
        if self.driver == "raw":
            return [*self.more]
        compat = "0.10" if self.version == 2 else "1.1"
        words = f"cluster_size={self.cluster_size},compat={compat}"
        secret: list[str] = []
        if self.passphrase is not None:
            secret = ["--object", f"secret,id=new,data={escape(self.passphrase)}"]
            words += ",encrypt.format=aes,encrypt.key-secret=new"
        return [*secret, "-o", words, *self.more]

    def disk(self, path: Path) -> Disk:
        """The image that was made, as the oracle names it."""
        return Disk(path, self.driver, self.passphrase)


class Case:
    """One comparison in a folder of its own.  A context manager."""

    def __init__(self, qemu: QemuImg, home: Path) -> None:
        self.qemu = qemu
        self.folder = Path(tempfile.mkdtemp(prefix="differential-", dir=home))
        self.commands: list[str] = []
        self.by_subprocess = False

    def __enter__(self) -> Case:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder)

    # Files and commands.

    def file(self, name: str, content: bytes = b"") -> Path:
        """A file without holes."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def theirs(self, *words: Word, check: bool = True) -> Outcome:
        """Run qemu-img."""
        self._note(self.qemu.img, words)
        done = self.qemu.run(*words, check=False)
        return self._done(Outcome(done.returncode, done.stdout, done.stderr), "qemu-img", check)

    def ours(self, *words: Word, check: bool = True) -> Outcome:
        """Run our command line: in this process, or as a program if ``by_subprocess``."""
        self._note("qcow2crypt", words)
        run = _run_program if self.by_subprocess else _run_main
        return self._done(run([str(word) for word in words]), "qcow2crypt", check)

    def qemu_io(self, disk: Disk, *commands: str, check: bool = True) -> str:
        """Run qemu-io commands on an image; a ``read -P`` that finds something else fails."""
        script = [part for command in commands for part in ("-c", command)]
        self._note(self.qemu.io, [*disk.secret("old"), *script, "--image-opts", disk.options("old")])
        return self.qemu.qemu_io(disk, commands, check=check)

    def both(self, *words: Word, their_words: Sequence[Word], our_words: Sequence[Word]) -> None:
        """Run the same ``words`` through both, each with its own last words."""
        self.theirs(*words, *their_words)
        self.ours(*words, *our_words)

    def _note(self, program: str, words: Sequence[Word]) -> None:
        self.commands.append(shlex.join([Path(program).name, *map(str, words)]))

    def _done(self, outcome: Outcome, who: str, check: bool) -> Outcome:
        if check and outcome.status != 0:
            said = (outcome.stderr or outcome.stdout).strip()
            self.fail(f"{who} ended with exit status {outcome.status}: {said}")
        return outcome

    # The usual jobs.

    def convert(self, source: Disk, target: Target, *more: str) -> tuple[Disk, Disk]:
        """Convert by qemu-img and by us; gives their file and ours."""
        theirs, ours = self.folder / "theirs", self.folder / "ours"
        words = ["convert", *more, *source.secret("old"), "-O", target.driver, *target.options]
        if source.encrypted:
            words += ["--image-opts", source.options("old")]
        else:
            words += ["-f", source.driver, str(source.path)]
        self.both(*words, their_words=[theirs], our_words=[ours])
        return target.disk(theirs), target.disk(ours)

    def guest_by_us(self, disk: Disk) -> bytes:
        """The guest disk as our convert reads it."""
        return self._guest(disk, self.ours, "guest-by-us")

    def guest_by_them(self, disk: Disk) -> bytes:
        """The guest disk as qemu-img convert reads it."""
        return self._guest(disk, self.theirs, "guest-by-them")

    def _guest(self, disk: Disk, run: Any, name: str) -> bytes:  # noqa: ANN401 - a method
        raw = self.folder / name
        run("convert", *disk.secret("old"), "-O", "raw", *_opened(disk), raw)
        content = raw.read_bytes()
        raw.unlink()
        return content

    def map_by_us(self, disk: Disk, *more: str) -> list[dict[str, Any]]:
        """What our map prints as JSON."""
        return list(json.loads(self._map(disk, self.ours, more)))

    def map_by_them(self, disk: Disk, *more: str) -> list[dict[str, Any]]:
        """What qemu-img map prints as JSON."""
        return list(json.loads(self._map(disk, self.theirs, more)))

    def _map(self, disk: Disk, run: Any, more: Sequence[str]) -> str:  # noqa: ANN401 - a method
        words = ["map", "--output=json", *more, *disk.secret("old"), *_opened(disk)]
        return str(run(*words).stdout)

    # Verdicts.

    def same_files(self, theirs: Path, ours: Path) -> None:
        """The two files must be equal byte for byte."""
        offset = first_difference(theirs, ours)
        if offset is None:
            return
        sizes = f"{theirs.stat().st_size} bytes by qemu-img, {ours.stat().st_size} by us"
        self.fail(
            f"the files differ ({sizes}), first at host offset {offset:#x}: "
            f"in qemu-img's file {place_of(theirs, offset)}, in ours {place_of(ours, offset)}\n"
            f"qemu-img: {_peek(theirs, offset)}\nours:     {_peek(ours, offset)}"
        )

    def same_guest(self, found: bytes, wanted: bytes, what: str, image: Path | None = None) -> None:
        """Two guest disks must be equal; ``image`` is where the found one was read from."""
        if found == wanted:
            return
        at = first_different_byte(found, wanted)
        where = f"guest offset {at:#x} (guest sector {at // SECTOR}, byte {at % SECTOR} of it)"
        if image is not None:
            where += f", {host_place(image, at)}"
        self.fail(
            f"{what}: {len(found)} guest bytes, {len(wanted)} wanted; they differ first at {where}\n"
            f"found:  {found[at : at + 32].hex(' ', 4)}\nwanted: {wanted[at : at + 32].hex(' ', 4)}"
        )

    def nothing_to_find(self, disk: Disk) -> None:
        """``qemu-img check`` must find neither errors nor leaks."""
        self.commands.append(f"qemu-img check {disk.path}")
        found = self.qemu.check(disk)
        bad = [found.get(key, 0) for key in ("corruptions", "leaks", "check-errors")]
        if any(bad):
            self.fail(f"qemu-img check finds {found}")

    def same_json(self, found: object, wanted: object, what: str) -> None:
        """Two pieces of JSON must be equal."""
        if found != wanted:
            self.fail(f"{what}\nby us:       {json.dumps(found)}\nby qemu-img: {json.dumps(wanted)}")

    def fail(self, problem: str) -> NoReturn:
        """Raise Difference with all that a reader needs."""
        ran = "\n".join(f"  $ {command}" for command in self.commands)
        raise Difference(f"{problem}\nqemu-img version {self.qemu.version}; commands:\n{ran}")


def _opened(disk: Disk) -> list[str]:
    """The words that name an image to read."""
    if disk.encrypted:
        return ["--image-opts", disk.options("old")]
    return ["-f", disk.driver, str(disk.path)]


def _run_main(words: list[str]) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return Outcome(status, out.getvalue(), err.getvalue())


def _run_program(words: list[str]) -> Outcome:
    tree = str(Path(qcow2crypt.__file__).parents[1])
    path = os.pathsep.join([tree, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-m", "qcow2crypt", *words],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


# Where two things differ.


def first_difference(first: Path, second: Path) -> int | None:
    """The offset of the first byte that differs; the shorter length if one is cut; else None."""
    step = 1 << 22
    with first.open("rb") as one, second.open("rb") as two:
        offset = 0
        while True:
            left, right = one.read(step), two.read(step)
            if left != right:
                return offset + first_different_byte(left, right)
            if not left:
                return None
            offset += len(left)


def first_different_byte(left: bytes, right: bytes) -> int:
    """The position of the first different byte; the shorter length if one begins the other."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def host_place(image: Path, guest_offset: int) -> str:
    """Where ``guest_offset`` lies in an image, for a message; our own map may be at fault too."""
    try:
        with qcow2crypt.open(image, b"") as disk:
            extent = next(iter(disk.extents(guest_offset, 1)))
    except Exception as error:  # noqa: BLE001 - a message must not hide the difference
        return f"host offset unknown ({error})"
    host = "none" if extent.host_offset is None else f"{extent.host_offset:#x}"
    return f"host offset {host} ({extent.kind.value})"


def _peek(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(32).hex(" ", 4) or "(end of file)"


@contextlib.contextmanager
def scratch_home(fallback: Path) -> Iterator[Path]:
    """A folder in memory if there is one with room; sync and holes are then quick and exact."""
    memory = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    roomy = roomy and shutil.disk_usage(memory).free > 1 << 30
    home = Path(tempfile.mkdtemp(prefix="qcow2crypt-", dir=memory if roomy else fallback))
    try:
        yield home
    finally:
        shutil.rmtree(home)
