"""Who takes part in ``random_access.py``: this package as a library, and a running qemu-io.

A piece is 4 KiB at a multiple of 4 KiB.  Images are filled so that each piece is one byte over
and over, which depends on its number and, where a turn wrote it, on the turn.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import qcow2crypt

REQUEST = 4096
PASSPHRASE = "hunter2"
_MARKER = b"length\n"  # a command of qemu-io that answers one line
_LENGTH = re.compile(rb"[0-9.]+ [KMGT]iB")
_STEP = 1 << 20


def byte_of(piece: int, turn: int = 0) -> int:
    """What a piece is filled with: by turn 0 when the image is made, by a later one after."""
    return 1 + (piece + 31 * turn) % 255


class Worker(ABC):
    """Has the image open; gives wall seconds and processor seconds, NaN if unknown."""

    @abstractmethod
    def timed(self, operation: str, pieces: list[int], turn: int) -> tuple[float, float]:
        """Do ``operation`` on all pieces, after a short one to get warm."""

    @abstractmethod
    def check(self, pieces: list[int], turn: int = 0) -> None:
        """See that pieces hold what a turn wrote.  Ends the run if they do not."""

    @abstractmethod
    def close(self) -> None:
        """Close the image."""


@contextmanager
def working(make: Callable[[Path], Worker], path: Path) -> Iterator[Worker]:
    """A worker on ``path``, closed at the end."""
    worker = make(path)
    try:
        yield worker
    finally:
        worker.close()


class Library(Worker):
    """This package, in this process."""

    def __init__(self, path: Path, *, aes: bool, engine: str | None) -> None:
        secret = PASSPHRASE if aes else None
        self.image = qcow2crypt.open(path, secret, "r+", format="qcow2", engine=engine)

    def timed(self, operation: str, pieces: list[int], turn: int) -> tuple[float, float]:
        """See ``Worker``."""
        image = self.image
        offsets = [piece * REQUEST for piece in pieces]
        if operation == "read":
            # Everything once: this brings the L2 tables and the host file into memory.
            for start in range(0, image.size, _STEP):
                image.pread(_STEP, start)
            pread = image.pread
            wall, used = time.perf_counter(), time.thread_time()
            for offset in offsets:
                pread(REQUEST, offset)
            return time.perf_counter() - wall, time.thread_time() - used
        data = [bytes([byte_of(piece, turn)]) * REQUEST for piece in pieces]
        if operation == "write":
            image.pwrite(data[0], offsets[0])
        pwrite = image.pwrite
        wall, used = time.perf_counter(), time.thread_time()
        for offset, one in zip(offsets, data, strict=True):
            pwrite(one, offset)
        if operation == "fill":
            image.flush()
        return time.perf_counter() - wall, time.thread_time() - used

    def check(self, pieces: list[int], turn: int = 0) -> None:
        """See ``Worker``."""
        for piece in pieces:
            expected = bytes([byte_of(piece, turn)]) * REQUEST
            if self.image.pread(REQUEST, piece * REQUEST) != expected:
                raise SystemExit(f"the library reads piece {piece} wrong: nothing was measured")

    def close(self) -> None:
        """See ``Worker``."""
        self.image.close()


class QemuIo(Worker):
    """One qemu-io for each turn, with its commands in a file as standard input.

    (On a pipe that stays open it waits for more while commands stand in its buffer.)  Its time
    runs from the answer to a command before those that count to the answer to one behind them.
    So it has in it what ``read -q 0 0`` shows, the command that reads nothing.
    """

    def __init__(self, path: Path, *, aes: bool) -> None:
        self._command = _qemu_io(path, aes=aes, read_only=False)

    def timed(self, operation: str, pieces: list[int], turn: int) -> tuple[float, float]:
        """See ``Worker``."""
        before: list[str] = []
        if operation == "nothing":
            commands = ["read -q 0 0"] * len(pieces)
        elif operation == "read":
            commands = [f"read -q {piece * REQUEST} {REQUEST}" for piece in pieces]
            before = [f"read -q 0 {64 << 20}", *commands[:10]]
        else:
            commands = [
                f"write -q -P {byte_of(piece, turn)} {piece * REQUEST} {REQUEST}"
                for piece in pieces
            ]
            if operation == "write":
                before = commands[:1]
            else:
                commands.append("flush")
        (start, start_used), (end, end_used) = self._run(before, commands)
        return end - start, end_used - start_used

    def check(self, pieces: list[int], turn: int = 0) -> None:
        """See ``Worker``."""
        self._run(
            [f"read -q -P {byte_of(piece, turn)} {piece * REQUEST} {REQUEST}" for piece in pieces]
        )

    def _run(self, *parts: list[str]) -> list[tuple[float, float]]:
        """Wall and processor time at the end of each part.  An answer to a command is an error."""
        times = []
        with tempfile.TemporaryFile() as script:
            for part in parts:
                script.write("".join(f"{command}\n" for command in part).encode() + _MARKER)
            script.seek(0)
            with subprocess.Popen(
                self._command, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                if process.stdout is None:
                    raise TypeError("qemu-io was started without a pipe")
                for _ in parts:
                    answer = process.stdout.readline().replace(b"qemu-io> ", b"").strip()
                    times.append((time.perf_counter(), _processor_time(process.pid)))
                    if not _LENGTH.fullmatch(answer):
                        raise SystemExit(f"qemu-io says: {answer.decode()}")
        return times

    def close(self) -> None:
        """Nothing to do: each qemu-io has ended."""


def _processor_time(pid: int) -> float:
    """Seconds that all threads of a process have run; not a number where Linux does not tell."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9
    except (OSError, ValueError, IndexError):
        return math.nan


def create(path: Path, size: int, cluster_size: int, *, aes: bool) -> None:
    """A new image of version 3, by this package."""
    options = qcow2crypt.Qcow2Options(cluster_size=cluster_size, encryption="aes" if aes else None)
    path.unlink(missing_ok=True)
    secret = PASSPHRASE if aes else None
    qcow2crypt.create(path, size, options=options, secret=secret)


def fill(path: Path, size: int, *, aes: bool) -> None:
    """Write all pieces of an image, as turn 0."""
    with qcow2crypt.open(path, PASSPHRASE if aes else None, "r+") as image:
        for start in range(0, size, _STEP):
            first = start // REQUEST
            numbers = range(first, first + _STEP // REQUEST)
            image.pwrite(b"".join(bytes([byte_of(n)]) * REQUEST for n in numbers), start)


def check_image(path: Path) -> None:
    """See that a turn left a sound image behind."""
    if qcow2crypt.check(path).status:
        raise SystemExit(f"{path.name} is damaged: nothing was measured")


def whole_processes(path: Path, place: int, *, qemu: bool) -> dict[str, list[str]]:
    """Commands that start, read one sector of an AES image, and end."""
    program = (
        "import sys, qcow2crypt\n"
        f"with qcow2crypt.open(sys.argv[1], '{PASSPHRASE}') as image:\n"
        f"    assert image.pread(512, {place}) == bytes([7]) * 512\n"
    )
    found = {
        "python, nothing at all": [sys.executable, "-c", "pass"],
        "qcow2crypt": [sys.executable, "-c", program, str(path)],
    }
    if qemu:
        command = _qemu_io(path, aes=True, read_only=True)
        found["qemu-io"] = [*command, "-c", f"read -q -P 7 {place} 512"]
    return found


def qemu_version() -> str:
    """What qemu-io says that it is."""
    done = subprocess.run(
        ["qemu-io", "--version"],  # noqa: S607 - whichever is installed
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[0].removeprefix("qemu-io version ")


def _qemu_io(path: Path, *, aes: bool, read_only: bool) -> list[str]:
    options = f"driver=qcow2,file.filename={path}"
    command = ["qemu-io"]
    if aes:
        command += ["--object", f"secret,id=s,data={PASSPHRASE}"]
        options += ",encrypt.key-secret=s"
    if read_only:
        command.append("-r")
    return [*command, "--image-opts", options]
