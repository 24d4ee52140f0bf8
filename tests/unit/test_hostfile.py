"""Reads of the image file: paths and file objects, good ones and bad ones."""

from __future__ import annotations

import io
import mmap
import os
import socket
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import CONTENT
from support.privileges import nobody

from qcow2crypt.errors import ArgumentError, SourceError
from qcow2crypt.image.filecalls import in_groups
from qcow2crypt.image.hostfile import HostFile


class Short(io.BytesIO):
    """Gives one to three bytes at a time."""

    def readinto(self, buffer: Any, /) -> int:
        return super().readinto(memoryview(buffer)[: 1 + self.tell() % 3])


class NoReadinto:
    """A file object that has nothing but what is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.seek = self._file.seek
        self.tell = self._file.tell
        self.read = self._file.read


class Broken(io.BytesIO):
    def readinto(self, buffer: Any, /) -> int:
        raise OSError(5, "Input/output error")


def mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "str": str,
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "raw file": lambda path: path.open("rb", buffering=0),
    "short reads": lambda path: Short(path.read_bytes()),
    "no readinto": lambda path: NoReadinto(path.read_bytes()),
    "mmap": mapped,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source(kind: str, path: Path) -> None:
    source = SOURCES[kind](path)
    file = HostFile(source)
    assert file.size == len(CONTENT)
    assert file.pread(len(CONTENT), 0) == CONTENT
    assert file.pread(7, 250) == CONTENT[250:257]
    assert file.pread(0, 3) == b""
    assert file.pread(10, len(CONTENT) - 4) == CONTENT[-4:] + bytes(6)
    assert file.pread(5, len(CONTENT)) == bytes(5)
    assert file.pread(5, 2**80) == bytes(5)
    file.close()
    file.close()
    if hasattr(source, "close"):
        assert not getattr(source, "closed", False), "a file object stays its owner's"
        source.close()


@given(st.integers(0, 1400), st.integers(0, 200))
def test_a_read_is_a_slice_of_the_file_and_endless_zeros(offset: int, length: int) -> None:
    expected = (CONTENT + bytes(2000))[offset : offset + length]
    for source in (io.BytesIO(CONTENT), Short(CONTENT), NoReadinto(CONTENT)):
        assert HostFile(source).pread(length, offset) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(array("B", bytes(n)))])
def test_old_content_of_a_buffer_is_gone(make: Callable[[int], Any]) -> None:
    buffer = make(20)
    buffer[:] = b"\xff" * 20
    HostFile(io.BytesIO(b"12345")).pread_into(buffer, 2)
    assert bytes(buffer) == b"345" + bytes(17)


def test_a_name_for_messages(path: Path) -> None:
    assert HostFile(path).name == str(path)
    assert HostFile(io.BytesIO()).name == "<BytesIO>"
    with path.open("rb") as file:
        assert HostFile(file).name == str(path)
    with path.open("rb", buffering=0) as raw:
        assert HostFile(raw).name == str(path)


def test_a_file_object_without_a_text_name(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
        assert isinstance(file.name, int)
        assert HostFile(file).name == "<BufferedReader>"


def test_a_path_is_opened_for_reading_only(path: Path) -> None:
    file = HostFile(path)
    assert file.fd is not None
    with pytest.raises(OSError, match=r"Bad file descriptor"):
        os.write(file.fd, b"x")
    assert not os.get_inheritable(file.fd)
    file.close()


def test_only_reading_flags_are_ever_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = os.open

    def spy(name: str, flags: int, *more: Any) -> int:
        asked.append(flags)
        return real(name, flags, *more)

    monkeypatch.setattr(os, "open", spy)
    HostFile(path).close()
    assert asked
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    assert not any(flags & writing for flags in asked)


def test_close_closes_what_was_opened(path: Path) -> None:
    file = HostFile(path)
    fd = file.fd
    assert fd is not None
    file.close()
    assert file.fd is None
    with pytest.raises(OSError, match=r"Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(SourceError, match=r"the file is closed"):
        file.pread(1, 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "cannot open '{path}': No such file or directory"),
        ("missing/too", "cannot open '{path}': No such file or directory"),
        ("folder", "cannot read '{path}': it is a directory, not an image file"),
        ("pipe", "cannot read '{path}': it is a pipe, not an image file"),
        ("loop", "cannot open '{path}': Too many levels of symbolic links"),
    ],
)
def test_paths_that_cannot_be_read(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / name
    with pytest.raises(SourceError) as caught:
        HostFile(path)
    assert str(caught.value) == says.format(path=path)
    assert isinstance(caught.value.__cause__, OSError) or "it is" in says


def test_devices_and_sockets_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"it is a character device, not an image file"):
        HostFile("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        name = tmp_path / "s"
        try:
            listener.bind(str(name))
        except OSError:  # the name is too long for a socket
            return
        with pytest.raises(SourceError, match=r"cannot open|it is a special file"):
            HostFile(name)


def test_no_permission(path: Path) -> None:
    path.chmod(0)
    with nobody(), pytest.raises(SourceError, match=r"cannot open '.*': Permission denied"):
        HostFile(path)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"/tmp"


@pytest.mark.parametrize("source", [b"/tmp/x", 3, None, object(), BytesPath(), ["a"]])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(ArgumentError):
        HostFile(source)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(SourceError, match=r"cannot open 'a\\"):
        HostFile(name)


def test_a_file_object_that_cannot_seek() -> None:
    first, second = os.pipe()
    os.close(second)
    with (
        os.fdopen(first, "rb") as reader,
        pytest.raises(SourceError, match=r"an image needs random access"),
    ):
        HostFile(reader)


def test_a_file_object_that_is_closed() -> None:
    file = io.BytesIO(CONTENT)
    source = HostFile(file)
    file.close()
    with pytest.raises(SourceError, match=r"cannot read '<BytesIO>' at host offset 0x0: I/O"):
        source.pread(1, 0)
    with pytest.raises(SourceError):
        HostFile(file)


def test_a_file_object_that_fails() -> None:
    with pytest.raises(SourceError, match=r"at host offset 0x3: Input/output error") as caught:
        HostFile(Broken(CONTENT)).pread(1, 3)
    assert isinstance(caught.value.__cause__, OSError)


class Answers(io.BytesIO):
    """Lies about how much it has read."""

    def __init__(self, answer: Any) -> None:
        super().__init__(CONTENT)
        self.answer = answer

    def readinto(self, buffer: Any, /) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [0, None, -1, -(2**40)])
def test_a_file_object_that_gives_nothing_ends_there(answer: Any) -> None:
    assert HostFile(Answers(answer)).pread(5, 0) == bytes(5)


def test_a_file_object_that_gives_nonsense() -> None:
    with pytest.raises(SourceError):
        HostFile(Answers("five")).pread(5, 0)


def test_a_file_object_that_claims_more_than_was_asked_for() -> None:
    assert HostFile(Answers(99)).pread(5, 0) == bytes(5)
    generous = NoReadinto(CONTENT)
    generous.read = lambda _size: CONTENT  # type: ignore[assignment,misc]
    with pytest.raises(SourceError):
        HostFile(generous).pread(5, 0)  # type: ignore[arg-type]


class Liar(io.BytesIO):
    """Claims a size."""

    claim = 0

    def tell(self) -> int:
        return self.claim


@pytest.mark.parametrize("claim", [0, 7, 2**40, 2**63, 2**80])
def test_a_file_object_that_lies_about_its_size(claim: int) -> None:
    file = Liar(CONTENT)
    file.claim = claim
    source = HostFile(file)
    assert source.size == claim
    assert source.pread(5, 0) == CONTENT[: min(5, claim)].ljust(5, b"\0")
    if claim >= 2**80:
        with pytest.raises(SourceError):
            source.pread(5, 2**70)
    else:
        assert source.pread(5, claim) == bytes(5)


def test_a_file_object_that_claims_less_than_nothing() -> None:
    file = Liar(CONTENT)
    file.claim = -3
    with pytest.raises(SourceError, match=r"cannot seek in '<Liar>': it says that it has -3 bytes"):
        HostFile(file)


def test_text_files_are_refused(path: Path) -> None:
    path.write_text("just text")
    with path.open() as file, pytest.raises(SourceError):
        HostFile(file).pread(3, 0)  # type: ignore[arg-type]
    with pytest.raises(SourceError):
        HostFile(io.StringIO("just text")).pread(3, 0)  # type: ignore[arg-type]


def test_identity(path: Path, tmp_path: Path) -> None:
    status = path.stat()
    same = (status.st_dev, status.st_ino)
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(path)
    hard.hardlink_to(path)
    assert [HostFile(name).identity() for name in (path, link, hard)] == [same] * 3
    with path.open("rb") as file:
        assert HostFile(file).identity() == same
    assert HostFile(io.BytesIO(CONTENT)).identity() is None
    closed = HostFile(path)
    closed.close()
    assert closed.identity() == same


def test_allocated_size_does_not_count_holes(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(64 << 20)
    source = HostFile(path)
    assert source.size == 64 << 20
    assert source.allocated_size == path.stat().st_blocks * 512
    assert source.allocated_size < 1 << 20
    assert HostFile(io.BytesIO(b"abc")).allocated_size == 3


def test_threads_may_share_one_file_object(path: Path) -> None:
    """The cursor of a file object moves under a lock."""
    with path.open("rb", buffering=0) as file:
        source = HostFile(file)
        wrong: list[int] = []

        def read(seed: int) -> None:
            for step in range(300):
                offset = (seed * 97 + step * 31) % len(CONTENT)
                if source.pread(40, offset) != (CONTENT + bytes(40))[offset : offset + 40]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_short_read_is_done_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that fails or comes short is done again, with an error that says where."""
    if not hasattr(os, "pread"):
        pytest.skip("this Python has no os.pread")
    file = HostFile(path)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, length - 5, offset))
    assert file.pread(9, 90) == CONTENT[90:99]

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert file.pread(9, 90) == CONTENT[90:99]
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceError, match="host offset 0x5a"):
        file.pread(9, 90)
    file.close()
    with pytest.raises(SourceError, match="closed"):
        file.pread(9, 0)


@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(1, 300)), max_size=12), st.booleans())
def test_groups_are_what_lies_together(parts: list[tuple[int, int]], in_order: bool) -> None:
    """One call for each group fills every buffer; small gaps are read, too."""
    parts = sorted(parts) if in_order else parts
    given_parts = [(memoryview(bytearray(length)), offset * 13) for offset, length in parts]
    seen: list[tuple[memoryview, int]] = []
    for group, start, end, count in in_groups(given_parts):
        assert sum(view.nbytes for view in group) == end - start
        at, mine = start, given_parts[len(seen) : len(seen) + count]
        buffers = {id(view): offset for view, offset in mine}
        for view in group:
            assert buffers.get(id(view), at) == at
            at += view.nbytes
        seen += mine
    assert seen == given_parts
