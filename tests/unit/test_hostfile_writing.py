"""Writes to the image file: paths and file objects, good ones and bad ones."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import CONTENT
from support.privileges import nobody

from qcow2crypt.errors import ArgumentError, ReadOnlyError, SourceError, TargetError
from qcow2crypt.image import filecalls
from qcow2crypt.image.hostfile import HostFile


class ShortWrites(io.BytesIO):
    """Takes one to three bytes at a time."""

    def write(self, data: Any, /) -> int:
        return super().write(memoryview(data)[: 1 + self.tell() % 3])


class ShortOnDisk(io.FileIO):
    def write(self, data: Any, /) -> int:
        return super().write(memoryview(data)[:100])


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "str": str,
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "file": lambda path: path.open("r+b"),
    "raw file": lambda path: path.open("r+b", buffering=0),
    "short writes": lambda path: ShortWrites(path.read_bytes()),
    "short on disk": lambda path: ShortOnDisk(path, "r+b"),
}


@pytest.fixture(params=SOURCES)
def file(request: pytest.FixtureRequest, path: Path) -> Iterator[HostFile]:
    source = SOURCES[request.param](path)
    file = HostFile(source, writable=True)
    assert file.writable
    yield file
    file.close()
    if hasattr(source, "close"):
        assert not source.closed, "a file object stays its owner's"
        source.close()


def content(file: HostFile) -> bytes:
    return file.pread(file.size, 0)


class TestAllKinds:
    def test_write_inside(self, file: HostFile) -> None:
        file.pwrite(b"new", 10)
        file.pwrite(memoryview(b"xother")[1:], 300)
        file.pwrite(bytearray(b""), 5)
        expected = bytearray(CONTENT)
        expected[10:13], expected[300:305] = b"new", b"other"
        assert content(file) == expected
        assert file.size == len(CONTENT)

    def test_write_across_and_past_the_end(self, file: HostFile) -> None:
        end = len(CONTENT)
        file.pwrite(b"longer", end - 2)
        assert file.size == end + 4
        file.pwrite(b"far", 5000)
        assert file.size == 5003
        assert content(file) == (CONTENT[:-2] + b"longer").ljust(5000, b"\0") + b"far"

    def test_a_write_of_nothing_past_the_end(self, file: HostFile) -> None:
        file.pwrite(b"", 5000)
        assert file.size == len(CONTENT)

    def test_truncate(self, file: HostFile) -> None:
        file.truncate(7)
        assert (file.size, content(file)) == (7, CONTENT[:7])
        assert file.pread(5, 5) == CONTENT[5:7] + bytes(3)
        file.truncate(3000)
        assert (file.size, content(file)) == (3000, CONTENT[:7] + bytes(2993))
        file.truncate(3000)
        file.truncate(0)
        assert (file.size, content(file)) == (0, b"")

    def test_flush(self, file: HostFile) -> None:
        file.pwrite(b"new", 10)
        file.flush()
        file.flush()
        assert file.pread(3, 10) == b"new"

    def test_any_buffer(self, file: HostFile) -> None:
        words = memoryview(bytearray(b"12345678")).cast("I")
        file.pwrite(words, 1)
        assert file.pread(8, 1) == b"12345678"

    def test_a_hole_reads_as_zeros_or_nothing_happened(self, file: HostFile) -> None:
        file.pwrite(b"\xff" * 10000, 0)
        done = file.punch_hole(4000, 1000)
        assert file.pread(1000, 4000) == (bytes(1000) if done else b"\xff" * 1000)
        assert file.pread(4000, 0) + file.pread(5000, 5000) == b"\xff" * 9000
        assert file.size == 10000

    def test_a_closed_file(self, file: HostFile) -> None:
        file.close()
        with pytest.raises(TargetError, match=r"the file is closed"):
            file.pwrite(b"x", 0)
        with pytest.raises(TargetError, match=r"the file is closed"):
            file.truncate(1)
        with pytest.raises(TargetError, match=r"the file is closed"):
            file.flush()
        assert not file.punch_hole(0, 1)

    def test_threads(self, file: HostFile) -> None:
        def write(number: int) -> None:
            for step in range(50):
                file.pwrite(bytes([number]) * 8, (step * 8 + number) * 8)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert file.size == 50 * 8 * 8
        assert content(file) == b"".join(bytes([n]) * 8 for n in range(8)) * 50


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 600), st.binary(max_size=200)),
            st.tuples(st.just("truncate"), st.integers(0, 700)),
        ),
        max_size=12,
    )
)
def test_steps_are_those_of_a_bytearray(steps: list[tuple[Any, Any]]) -> None:
    with tempfile.TemporaryFile() as under:
        files = [HostFile(io.BytesIO(), writable=True), HostFile(under, writable=True)]
        model = bytearray()
        for where, what in steps:
            if where == "truncate":
                model[what:] = bytes(max(0, what - len(model)))
            elif what:
                model.extend(bytes(max(0, where + len(what) - len(model))))
                model[where : where + len(what)] = what
            for file in files:
                if where == "truncate":
                    file.truncate(what)
                else:
                    file.pwrite(what, where)
                assert file.size == len(model)
                assert content(file) == model


class TestOnDisk:
    def test_a_path_is_changed_in_place(self, path: Path) -> None:
        inode = path.stat().st_ino
        file = HostFile(path, writable=True)
        file.pwrite(b"new", 0)
        file.close()
        assert path.read_bytes() == b"new" + CONTENT[3:]
        assert path.stat().st_ino == inode

    def test_flush_reaches_a_file_below_a_buffered_object(self, path: Path) -> None:
        with path.open("r+b") as below:
            file = HostFile(below, writable=True)
            file.pwrite(b"new", 0)
            file.flush()
            assert path.read_bytes() == b"new" + CONTENT[3:]

    @pytest.mark.parametrize("kind", ["path", "object"])
    def test_flush_asks_the_disk(
        self, kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr("qcow2crypt.image.hostfile.sync_data", asked.append)
        with path.open("r+b") as below:
            file = HostFile(path if kind == "path" else below, writable=True)
            file.flush()
            assert asked == [file.fd if kind == "path" else below.fileno()]

    def test_a_hole_frees_disk_space(self, tmp_path: Path) -> None:
        path = tmp_path / "big"
        path.write_bytes(b"\xff" * (1 << 20))
        file = HostFile(path, writable=True)
        file.flush()
        before = file.allocated_size
        if not file.punch_hole(65536, 65536):
            pytest.skip("this file system makes no holes")
        assert file.allocated_size <= before - 65536
        assert file.pread(65536, 65536) == bytes(65536)
        assert file.next_data(65536) == (131072, 1 << 20)
        assert file.punch_hole(1 << 20, 1 << 20)
        assert file.size == path.stat().st_size == 1 << 20

    @pytest.mark.parametrize("number", [95, 38, 22, 1])
    def test_where_holes_cannot_be_made(
        self, number: int, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ctypes.get_errno", lambda: number)
        monkeypatch.setattr(filecalls, "_fallocate", lambda: lambda *_: -1)
        assert not HostFile(path, writable=True).punch_hole(0, 100)
        assert path.read_bytes() == CONTENT

    def test_a_hole_that_fails(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ctypes.get_errno", lambda: 5)
        monkeypatch.setattr(filecalls, "_fallocate", lambda: lambda *_: -1)
        with pytest.raises(TargetError, match=r"make a hole in .* 0x7: Input/output error"):
            HostFile(path, writable=True).punch_hole(7, 100)

    def test_where_the_call_is_missing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(filecalls, "_fallocate", lambda: None)
        assert not HostFile(path, writable=True).punch_hole(0, 100)

    def test_holes_and_data(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse"
        with path.open("wb") as sparse:
            sparse.seek(1 << 20)
            sparse.write(b"x" * 4096)
            sparse.truncate(4 << 20)
        file = HostFile(path)
        found = file.next_data(0)
        assert found is not None
        assert found in ((1 << 20, (1 << 20) + 4096), (0, 4 << 20))
        if found[0]:
            assert file.next_data((1 << 20) + 4096) == (4 << 20, 4 << 20)
        assert file.next_data(4 << 20) == (4 << 20, 4 << 20)
        assert HostFile(io.BytesIO(CONTENT)).next_data(0) is None
        file.close()
        assert file.next_data(0) is None


class TestRefusals:
    def test_a_reader_never_writes(self, path: Path) -> None:
        for source in (path, io.BytesIO(CONTENT)):
            file = HostFile(source)
            assert not file.writable
            for name, arguments in (
                ("pwrite", (b"x", 0)),
                ("truncate", (1,)),
                ("punch_hole", (0, 1)),
                ("flush", ()),
            ):
                with pytest.raises(ReadOnlyError, match=r"is open for reading only"):
                    getattr(file, name)(*arguments)
        assert path.read_bytes() == CONTENT

    def test_a_write_protected_file(self) -> None:
        # The folders that pytest makes are root's alone, when root runs it.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            path = Path(folder) / "file"
            path.write_bytes(CONTENT)
            path.chmod(0o444)
            with nobody(), pytest.raises(ReadOnlyError, match=r"Permission denied. It can be"):
                HostFile(path, writable=True)

    def test_a_file_without_any_permission(self, path: Path) -> None:
        path.chmod(0)
        with nobody(), pytest.raises(SourceError, match=r"cannot open '.*': Permission denied"):
            HostFile(path, writable=True)

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"No such file"):
            HostFile(tmp_path / "missing", writable=True)
        assert not (tmp_path / "missing").exists()

    def test_folders_and_pipes(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SourceError, match=r"it is a pipe"):
            HostFile(tmp_path / "pipe", writable=True)
        with pytest.raises(SourceError, match=r"Is a directory"):
            HostFile(tmp_path, writable=True)

    def test_file_objects_for_reading(self, path: Path) -> None:
        with path.open("rb") as file, pytest.raises(ReadOnlyError):
            HostFile(file, writable=True)

    def test_file_objects_for_appending(self, path: Path) -> None:
        """Whatever the position, what is written there goes to the end."""
        with path.open("a+b") as file, pytest.raises(ArgumentError, match=r"appending"):
            HostFile(file, writable=True)

    @pytest.mark.parametrize("answer", [0, -1, None, 99, "x"])
    def test_a_file_object_that_takes_nonsense(self, answer: Any) -> None:
        class Odd(io.BytesIO):
            def write(self, _data: Any, /) -> Any:
                return answer

        with pytest.raises(TargetError, match=r"cannot write '<Odd>' at host offset 0x5"):
            HostFile(Odd(CONTENT), writable=True).pwrite(b"abc", 5)

    def test_a_file_object_without_truncate(self) -> None:
        class Few:
            def __init__(self) -> None:
                below = io.BytesIO(CONTENT)
                self.seek, self.tell, self.read = below.seek, below.tell, below.read
                self.write = below.write

        file = HostFile(Few(), writable=True)  # type: ignore[arg-type]
        file.pwrite(b"abc", 5)
        assert file.pread(3, 5) == b"abc"
        with pytest.raises(TargetError, match=r"cannot set the size of '<Few>'"):
            file.truncate(3)

    def test_a_full_disk(self) -> None:
        class Full(io.BytesIO):
            def write(self, data: Any, /) -> int:
                if self.tell() >= len(CONTENT) + 100:
                    raise OSError(28, "No space left on device")
                return super().write(memoryview(data)[:100])

        file = HostFile(Full(CONTENT), writable=True)
        with pytest.raises(TargetError, match=r"at host offset 0x567: No space left") as caught:
            file.pwrite(bytes(1000), len(CONTENT))
        assert isinstance(caught.value.__cause__, OSError)
        assert file.size == len(CONTENT) + 100, "what was written before counts"

    def test_a_limit_on_files(self, path: Path) -> None:
        with pytest.raises(TargetError, match=r"at host offset 0x7f"):
            HostFile(path, writable=True).pwrite(b"x" * 100, 2**63 - 50)
        with pytest.raises(TargetError):
            HostFile(path, writable=True).pwrite(b"x", 2**70)
        with pytest.raises(TargetError):
            HostFile(path, writable=True).truncate(-1)
        assert path.read_bytes() == CONTENT
