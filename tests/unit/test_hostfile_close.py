"""Closing a file while another thread uses it: the use ends on the right file, or is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.files import CONTENT

from qcow2crypt.errors import SourceError, TargetError
from qcow2crypt.image.hostfile import HostFile


class TestCloseWhileInUse:
    """A descriptor number that was closed is given to the next file that is opened."""

    @pytest.mark.parametrize("call", ["pread", "preadv", "pwrite"])
    def test_the_number_is_not_reused_under_a_call(
        self, call: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"another file")
        file = HostFile(path, writable=True)
        number = file.fd
        real: Any = getattr(os, call)
        opened: list[int] = []

        def late(fd: int, *more: Any) -> Any:
            """Another thread closes, and opens something else, just before the call is made."""

            def close_and_open() -> None:
                file.close()
                opened.append(os.open(other, os.O_RDWR))

            thread = threading.Thread(target=close_and_open)
            thread.start()
            thread.join()
            return real(fd, *more)

        monkeypatch.setattr(os, call, late)
        try:
            if call == "pread":
                assert file.pread(4, 0) == CONTENT[:4]
            elif call == "preadv":
                buffer = bytearray(4)
                file.pread_into(buffer, 0)
                assert buffer == CONTENT[:4]
            else:
                file.pwrite(b"mine", 0)
                assert path.read_bytes()[:4] == b"mine"
        finally:
            os.close(opened[0])
        assert opened[0] != number
        assert other.read_bytes() == b"another file"
        assert number is not None
        with pytest.raises(OSError, match=r"Bad file descriptor"):
            os.fstat(number)

    def test_an_error_does_not_hold_the_file_open(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> int:
            raise OSError(5, "Input/output error")

        file = HostFile(path, writable=True)
        number = file.fd
        assert number is not None
        kept = []
        for name in ("pread", "preadv", "pwrite", "ftruncate"):
            monkeypatch.setattr(os, name, fail)
        monkeypatch.setattr("qcow2crypt.image.hostfile.sync_data", fail)
        for call in (
            lambda: file.pread(1, 0),
            lambda: file.pwrite(b"x", 0),
            lambda: file.truncate(5),
            file.flush,
        ):
            with pytest.raises((SourceError, TargetError)) as caught:
                call()
            kept.append(caught.value)
        file.close()
        assert len(kept) == 4
        with pytest.raises(OSError, match=r"Bad file descriptor"):
            os.fstat(number)

    def test_a_file_that_nobody_closed(self, path: Path) -> None:
        number = HostFile(path).fd
        assert number is not None
        with pytest.raises(OSError, match=r"Bad file descriptor"):
            os.fstat(number)

    def test_many_threads(self, path: Path) -> None:
        """Every read gives the content or says that the file is closed."""
        wrong: list[bytes] = []
        for _ in range(20):
            file = HostFile(path)
            start = threading.Barrier(5)

            def read(file: HostFile = file, start: threading.Barrier = start) -> None:
                start.wait()
                try:
                    while True:
                        data = file.pread(100, 0)
                        if data != CONTENT[:100]:
                            wrong.append(data)
                except SourceError:
                    pass

            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            start.wait()
            file.close()
            others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(4)]
            for thread in threads:
                thread.join()
            for number in others:
                os.close(number)
        assert wrong == []
