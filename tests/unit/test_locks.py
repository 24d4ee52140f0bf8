"""Image locks: who excludes whom, between two opens in one process and between processes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lockers import ALLOWED, FORCED, PAIRS, READER, WRITER, opened

from qcow2crypt.errors import ArgumentError, ImageLockedError, SourceError
from qcow2crypt.image import locks
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.targetfile import TargetFile

pytestmark = pytest.mark.skipif(not locks.AVAILABLE, reason="only Linux has OFD locks")

HOLDER = """
import sys
from qcow2crypt.image.hostfile import HostFile
kind, path = sys.argv[1:]
file = HostFile(path, writable=kind == "writer")
file.lock(writing=kind == "writer", force_share=kind == "forced reader")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1000))
    return file


def check(path: Path, first: str, second: str) -> None:
    """``first`` is held: ``second`` is given, or refused."""
    if (first, second) in ALLOWED:
        opened(path, second).close()
    else:
        with pytest.raises(ImageLockedError, match=rf"'{path}' is in use"):
            opened(path, second)


@contextlib.contextmanager
def another_process(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


@pytest.mark.parametrize(("first", "second"), PAIRS)
class TestPairs:
    def test_in_one_process(self, first: str, second: str, path: Path) -> None:
        holder = opened(path, first)
        check(path, first, second)
        holder.close()
        opened(path, second).close()

    def test_in_two_processes(self, first: str, second: str, path: Path) -> None:
        with another_process(path, first):
            check(path, first, second)
        opened(path, second).close()

    def test_through_a_link(self, first: str, second: str, path: Path) -> None:
        link = path.with_name("link")
        link.hardlink_to(path)
        holder = opened(path, first)
        check(link, first, second)
        holder.close()


def test_a_killed_process_holds_nothing(path: Path) -> None:
    with another_process(path, WRITER) as process:
        with pytest.raises(ImageLockedError):
            opened(path, READER)
        process.kill()
        process.wait()
        opened(path, WRITER).close()


@pytest.mark.parametrize(
    ("held", "asked", "says", "advice"),
    [
        (WRITER, READER, "has it open for writing", True),
        (WRITER, WRITER, "has it open for writing", False),
        (READER, WRITER, "has it open and lets nobody write to it", False),
    ],
)
def test_the_message(held: str, asked: str, says: str, *, advice: bool, path: Path) -> None:
    holder = opened(path, held)
    with pytest.raises(ImageLockedError) as caught:
        opened(path, asked)
    message = str(caught.value)
    assert f"'{path}' is in use" in message
    assert says in message
    assert "such as a running virtual machine" in message
    assert ("--force-share (force_share=True)" in message) == advice
    holder.close()


def test_a_refusal_holds_nothing(path: Path) -> None:
    """Whoever was refused is in nobody's way, even while it keeps the file open."""
    first = opened(path, READER)
    second = HostFile(path, writable=True)
    with pytest.raises(ImageLockedError):
        second.lock(writing=True)
    opened(path, READER).close()
    first.close()
    opened(path, WRITER).close()
    second.lock(writing=True)


def test_forcing_is_for_readers(path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"force_share is for reading"):
        HostFile(path, writable=True).lock(writing=True, force_share=True)


class TestChanges:
    """A second call of ``lock`` changes what is held."""

    def test_a_reader_becomes_a_writer_and_goes_back(self, path: Path) -> None:
        file = HostFile(path, writable=True)
        file.lock(writing=False)
        opened(path, READER).close()
        file.lock(writing=True)
        with pytest.raises(ImageLockedError):
            opened(path, READER)
        file.lock(writing=False)
        opened(path, READER).close()
        file.lock(writing=False, force_share=True)
        opened(path, WRITER).close()

    def test_of_two_readers_none_can(self, path: Path) -> None:
        first, second = HostFile(path, writable=True), HostFile(path, writable=True)
        first.lock(writing=False)
        second.lock(writing=False)
        for file in (first, second):
            with pytest.raises(ImageLockedError):
                file.lock(writing=True)
        with pytest.raises(ImageLockedError):  # both hold still what they held
            opened(path, WRITER)
        second.close()
        first.lock(writing=True)

    def test_the_same_again(self, path: Path) -> None:
        file = HostFile(path, writable=True)
        file.lock(writing=True)
        file.lock(writing=True)
        file.close()
        opened(path, WRITER).close()


def held_bytes(path: Path) -> set[int]:
    """The bytes of the file that someone holds, as anyone can ask."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return {byte for byte in range(90, 310) if locks._is_held_elsewhere(fd, byte)}
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"writing": False}, {100, 201, 203}),
        ({"writing": False, "force_share": True}, {100}),
        ({"writing": True}, {100, 101, 103, 201, 203}),
        ({"writing": True, "resizing": False}, {100, 101, 201, 203}),
    ],
)
def test_the_bytes(options: dict[str, bool], expected: set[int], path: Path) -> None:
    """The same as qemu-img, qemu-io and qemu-nbd hold; the file itself does not change."""
    before = path.stat()
    file = HostFile(path, writable=options["writing"])
    file.lock(**options)
    assert held_bytes(path) == expected
    file.close()
    assert held_bytes(path) == set()
    assert path.stat() == before


def test_of_many_at_once_one_at_most_is_given(path: Path) -> None:
    start = threading.Barrier(8)
    given: list[HostFile] = []
    refused: list[ImageLockedError] = []

    def ask() -> None:
        file = HostFile(path, writable=True)
        start.wait()
        try:
            file.lock(writing=True)
        except ImageLockedError as error:
            refused.append(error)
        else:
            given.append(file)

    for _ in range(20):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(given) <= 1
        assert len(given) + len(refused) == 8
        for file in given:
            file.close()
        given.clear()
        refused.clear()


class TestFileObjects:
    def test_a_file_object_is_locked_until_close(self, path: Path) -> None:
        with path.open("r+b") as below:
            file = HostFile(below, writable=True)
            file.lock(writing=True)
            with pytest.raises(ImageLockedError):
                opened(path, READER)
            file.close()
            opened(path, WRITER).close()

    def test_a_file_object_that_its_owner_closed(self, path: Path) -> None:
        with path.open("rb") as below:
            file = HostFile(below)
            file.lock(writing=False)
        opened(path, WRITER).close()
        file.close()

    def test_memory_has_no_locks(self) -> None:
        below = io.BytesIO(b"abc")
        for _ in range(2):
            HostFile(below, writable=True).lock(writing=True)

    def test_a_closed_file(self, path: Path) -> None:
        file = HostFile(path)
        file.close()
        file.lock(writing=False)
        assert held_bytes(path) == set()


class TestWithoutLocks:
    """Other systems, and file systems that cannot lock: all goes on, unprotected."""

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
    def test_a_file_system_without(
        self, number: int, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(locks, "_flock", refuse)
        first = opened(path, WRITER)
        second = opened(path, WRITER)
        first.close()
        second.close()
        with TargetFile(path) as target:
            target.pwrite(b"new", 0)
            target.commit()
        assert path.read_bytes() == b"new"

    def test_a_failure_that_says_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(locks, "_flock", fail)
        with pytest.raises(SourceError, match=r"cannot lock '.*': Input/output error"):
            opened(path, READER)

    def test_another_system(self, path: Path, tmp_path: Path) -> None:
        """The module as it is where sys.platform is not linux."""
        code = (
            "import sys; sys.platform = 'elsewhere'\n"
            "from qcow2crypt.image.hostfile import HostFile\n"
            "from qcow2crypt.targetfile import TargetFile\n"
            "a, b = (HostFile(sys.argv[1], writable=True) for _ in range(2))\n"
            "a.lock(writing=True); b.lock(writing=True); a.close(); b.close()\n"
            "with TargetFile(sys.argv[1]) as t: t.pwrite(b'new', 0); t.commit()\n"
        )
        holder = opened(path, WRITER)
        subprocess.run(
            [sys.executable, "-c", code, path],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        holder.close()
        assert path.read_bytes() == b"new"


def test_a_program_that_locks_for_itself_alone(path: Path) -> None:
    """No QEMU does that, but it is no reason to write into the file."""
    import fcntl

    with path.open("r+b") as other:
        locks._flock(other.fileno(), fcntl.F_OFD_SETLK, fcntl.F_WRLCK, 201)
        with pytest.raises(ImageLockedError, match=r"has locked it"):
            opened(path, READER)
        opened(path, FORCED).close()
