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
from typing import NoReturn, TypeAlias, TypeVar, cast

import pytest
from hypothesis import settings
from support.differential_locate import first_difference, host_place, peek, place_of
from support.differential_maps import Entry, comparable_info, comparable_map

import qcow2crypt
from qcow2crypt.cli import main
from qcow2crypt.testing.places import first_different_byte
from qcow2crypt.testing.witness import Disk, QemuImg, escape

SECTOR = 512
CLUSTER_SIZES = [1 << bits for bits in range(9, 22)]
PASSPHRASE = "correct horse battery"  # 21 bytes: only 16 of them count
EXHAUSTIVE = os.environ.get("QCOW2CRYPT_EXHAUSTIVE", "") not in {"", "0"}
"""Set in the environment for the long run: the same tests, larger disks, many more examples."""
_EXHAUSTIVE_EXAMPLES = 2000
_EXHAUSTIVE_TIMEOUT = 7200  # seconds

Word: TypeAlias = "str | Path"
NewCase: TypeAlias = "Callable[[], Case]"
_Test = TypeVar("_Test", bound=Callable[..., None])


def many(test: _Test) -> _Test:
    """Many more examples in the long run; elsewhere what the hypothesis profile says."""
    if not EXHAUSTIVE:
        return test
    longer = settings(max_examples=_EXHAUSTIVE_EXAMPLES)(test)
    return cast("_Test", pytest.mark.timeout(_EXHAUSTIVE_TIMEOUT)(longer))


class DifferenceError(AssertionError):
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
    more: str = ""

    @property
    def words(self) -> list[str]:
        """The ``--object`` and ``-o`` words."""
        if self.driver == "raw":
            return []
        compat = "0.10" if self.version == 2 else "1.1"
        options = f"cluster_size={self.cluster_size},compat={compat}{self.more and ','}{self.more}"
        secret: list[str] = []
        if self.passphrase is not None:
            secret = ["--object", f"secret,id=new,data={escape(self.passphrase)}"]
            options += ",encrypt.format=aes,encrypt.key-secret=new"
        return [*secret, "-o", options]

    def disk(self, path: Path) -> Disk:
        """The image that was made, as the oracle names it."""
        return Disk(path, self.driver, self.passphrase)


class Case:
    """One comparison in a folder of its own.  A context manager."""

    def __init__(self, qemu: QemuImg, home: Path) -> None:
        self.qemu = qemu
        self.folder = Path(tempfile.mkdtemp(prefix="case-", dir=home))
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

    def raw(self, content: bytes, name: str = "source") -> Disk:
        """A raw disk without holes."""
        path = self.folder / name
        path.write_bytes(content)
        return Disk(path, "raw")

    def theirs(self, *words: Word, check: bool = True) -> Outcome:
        """Run qemu-img."""
        self._note("qemu-img", words)
        done = self.qemu.run(*words, check=False)
        return self._done(Outcome(done.returncode, done.stdout, done.stderr), "qemu-img", check)

    def ours(self, *words: Word, check: bool = True) -> Outcome:
        """Run our command line: in this process, or as a program if ``by_subprocess``."""
        self._note("qcow2crypt", words)
        run = _run_program if self.by_subprocess else run_main
        return self._done(run([str(word) for word in words]), "qcow2crypt", check)

    def qemu_io(self, disk: Disk, *commands: str) -> str:
        """Run qemu-io commands on an image; a ``read -P`` that finds something else fails."""
        script = [part for command in commands for part in ("-c", command)]
        self._note("qemu-io", [*disk.secret("old"), *script, *opened(disk, always_options=True)])
        return self.qemu.qemu_io(disk, commands)

    def _note(self, program: str, words: Sequence[Word]) -> None:
        self.commands.append(shlex.join([program, *map(str, words)]))

    def _done(self, outcome: Outcome, who: str, check: bool) -> Outcome:
        if check and outcome.status != 0:
            said = (outcome.stderr or outcome.stdout).strip()
            self.fail(f"{who} ended with exit status {outcome.status}: {said}")
        return outcome

    # The usual jobs.

    def make(self, target: Target, size: int | str, name: str = "image") -> Disk:
        """A new empty image by qemu-img."""
        path = self.folder / name
        self.theirs("create", "-q", "-f", target.driver, *target.words, path, str(size))
        return target.disk(path)

    def convert(self, source: Disk, target: Target, *more: str) -> tuple[Disk, Disk]:
        """Convert by qemu-img and by us; gives their image and ours."""
        theirs, ours = self.folder / "theirs", self.folder / "ours"
        words = ["convert", *more, *source.secret("old"), "-O", target.driver, *target.words]
        words += opened(source)
        self.theirs(*words, theirs)
        self.ours(*words, ours)
        return target.disk(theirs), target.disk(ours)

    def guest_by_us(self, disk: Disk) -> bytes:
        """The guest disk as our convert reads it."""
        return self._guest(disk, self.ours, "guest-by-us")

    def guest_by_them(self, disk: Disk) -> bytes:
        """The guest disk as qemu-img convert reads it."""
        return self._guest(disk, self.theirs, "guest-by-them")

    def _guest(self, disk: Disk, run: Callable[..., Outcome], name: str) -> bytes:
        raw = self.folder / name
        run("convert", *disk.secret("old"), "-O", "raw", *opened(disk), raw)
        content = raw.read_bytes()
        raw.unlink()
        return content

    def read_by_us(self, disk: Disk, offset: int, length: int) -> bytes:
        """Guest bytes by our library."""
        self.commands.append(f"qcow2crypt.open({disk.path}).pread({length}, {offset})")
        with qcow2crypt.open(disk.path, disk.passphrase, format=disk.driver) as image:
            return image.pread(length, offset)

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
            f"qemu-img: {peek(theirs, offset)}\nours:     {peek(ours, offset)}"
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
            f"{what}: {len(found)} guest bytes, {len(wanted)} wanted; first difference at {where}\n"
            f"found:  {found[at : at + 32].hex(' ', 4)}\nwanted: {wanted[at : at + 32].hex(' ', 4)}"
        )

    def holds(self, disk: Disk, pattern: int, offset: int, length: int) -> None:
        """Both programs must read ``length`` bytes of ``pattern`` at a guest offset."""
        self.qemu_io(disk, f"read -P {pattern} {offset} {length}")
        found = self.read_by_us(disk, offset, length)
        self.same_guest(found, bytes([pattern]) * length, f"we read from {offset:#x}", disk.path)

    def both_read_the_same(self, disk: Disk) -> bytes:
        """Guest disk, map and description of one image; gives the guest disk."""
        wanted = self.guest_by_them(disk)
        self.same_guest(self.guest_by_us(disk), wanted, "both read one image", disk.path)
        self.same_map(disk)
        self.same_info(disk)
        return wanted

    def same_map(self, disk: Disk, *more: str) -> list[Entry]:
        """Both programs must print the same map of one image; gives it."""
        words = ["map", "--output=json", *more, *disk.secret("old"), *opened(disk)]
        wanted: list[Entry] = json.loads(self.theirs(*words).stdout)
        found = comparable_map(json.loads(self.ours(*words).stdout), wanted)
        self._same_json(found, wanted, "the maps of one image differ")
        return wanted

    def same_info(self, disk: Disk) -> Entry:
        """Both programs must describe one image alike; gives the description."""
        return self.same_description("-f", disk.driver, disk.path)

    def same_description(self, *words: Word) -> Entry:
        """The same for an image that ``words`` name, as a person might type it."""
        words = ("info", "--output=json", *words)
        wanted = comparable_info(json.loads(self.theirs(*words).stdout))
        found = comparable_info(json.loads(self.ours(*words).stdout))
        self._same_json(found, wanted, "the descriptions of one image differ")
        return wanted

    def _same_json(self, found: object, wanted: object, what: str) -> None:
        if found != wanted:
            self.fail(
                f"{what}\nby us:       {json.dumps(found)}\nby qemu-img: {json.dumps(wanted)}"
            )

    def nothing_to_find(self, disk: Disk) -> Entry:
        """``qemu-img check`` must find neither errors nor leaks; gives what it tells."""
        self.commands.append(f"qemu-img check {disk.path}")
        found = self.qemu.check(disk)
        if any(found.get(key, 0) for key in ("corruptions", "leaks", "check-errors")):
            self.fail(f"qemu-img check finds {found}")
        return found

    def fail(self, problem: str) -> NoReturn:
        """Raise DifferenceError with all that a reader needs."""
        ran = "\n".join(f"  $ {command}" for command in self.commands)
        raise DifferenceError(f"{problem}\nqemu-img version {self.qemu.version}; commands:\n{ran}")


def opened(disk: Disk, *, always_options: bool = False) -> list[str]:
    """The words that name an image to read."""
    if disk.encrypted or always_options:
        return ["--image-opts", disk.options("old")]
    return ["-f", disk.driver, str(disk.path)]


def both_programs(qemu: QemuImg, words: Sequence[str]) -> tuple[Outcome, Outcome]:
    """One command line to qemu-img and to us, in the present folder: theirs and ours."""
    done = qemu.run(*words, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr), run_main(list(words))


def padded(data: bytes) -> bytes:
    """The guest disk of a raw file: filled up to a whole sector."""
    return data + bytes(-len(data) % SECTOR)


def without_holes(path: Path) -> None:
    """Store every byte of a file, zeros too.

    QEMU looks for holes of the host file under the data of unencrypted images, and reports them
    as zeros.  We do not: such places are data.  Without holes there is nothing to find.
    """
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@contextlib.contextmanager
def scratch_home(fallback: Path) -> Iterator[Path]:
    """A folder in memory if there is one with room; sync and holes are then quick and exact."""
    memory = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    roomy = roomy and shutil.disk_usage(memory).free > (4 << 30 if EXHAUSTIVE else 1 << 30)
    home = Path(tempfile.mkdtemp(prefix="qcow2crypt-", dir=memory if roomy else fallback))
    try:
        yield home
    finally:
        shutil.rmtree(home)


def run_main(words: list[str]) -> Outcome:
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
