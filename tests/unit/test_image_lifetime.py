"""An image from opening to closing: sources, threads, refusals, and what is left behind."""

from __future__ import annotations

import gc
import io
import mmap
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.whole_image import CLUSTER, DISK, FILE, SECRET

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    HeaderError,
    Qcow2CryptError,
    SecretRequiredError,
    SnapshotNotFoundError,
    SourceError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import Image
from qcow2crypt.image.clusterimage import ClusterImage
from qcow2crypt.testing.damage.tiny import put_fields, tiny


@pytest.fixture
def image() -> Iterator[Image]:
    with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(FILE)
    return file


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


CALLS: dict[str, Callable[[Image], Any]] = {
    "read": lambda image: image.read(1),
    "readall": lambda image: image.readall(),
    "readinto": lambda image: image.readinto(bytearray(1)),
    "pread": lambda image: image.pread(1, 0),
    "preadinto": lambda image: image.preadinto(bytearray(1), 0),
    "seek": lambda image: image.seek(0),
    "tell": lambda image: image.tell(),
    "readable": lambda image: image.readable(),
    "seekable": lambda image: image.seekable(),
    "extents": lambda image: list(image.extents()),
    "info": lambda image: image.info(),
    "with": lambda image: image.__enter__(),
}


class TestClosing:
    @pytest.mark.parametrize("format_name", ["qcow2", "raw"])
    @pytest.mark.parametrize("call", CALLS)
    def test_a_closed_image_says_so(self, call: str, format_name: str) -> None:
        image = qcow2crypt.open(io.BytesIO(FILE), secret=SECRET, format=format_name)
        image.close()
        image.close()
        assert image.closed
        with pytest.raises(ValueError, match="closed"):
            CALLS[call](image)

    def test_leaving_the_context_closes(self, path: Path) -> None:
        before = open_files()
        with qcow2crypt.open(path, secret=SECRET) as image:
            assert image.pread(5, 0) == DISK[:5]
        assert image.closed
        assert open_files() == before

    def test_a_file_object_stays_open(self, path: Path) -> None:
        with path.open("rb") as file:
            qcow2crypt.open(file, secret=SECRET).close()
            assert not file.closed
            with qcow2crypt.open(file, secret=SECRET) as again:
                assert again.pread(5, 0) == DISK[:5]

    def test_the_key_is_let_go(self, image: Image) -> None:
        image.close()
        assert isinstance(image, ClusterImage)
        assert image._sectors.cipher is None

    @pytest.mark.parametrize(
        ("data", "arguments", "error"),
        [
            (b"QFI\xfb\0\0\0\x09", {}, HeaderError),
            (put_fields(FILE, {"crypt_method": 2}), {"secret": SECRET}, UnsupportedFeatureError),
            (FILE, {}, SecretRequiredError),
            (FILE, {"secret": SECRET, "engine": "none such"}, Qcow2CryptError),
            (FILE, {"secret": SECRET, "format": "none such"}, ArgumentError),
            (FILE, {"secret": SECRET, "mode": "w"}, ArgumentError),
            (FILE, {"secret": SECRET, "snapshot": "none such"}, SnapshotNotFoundError),
        ],
    )
    def test_an_image_that_is_refused_leaves_nothing_open(
        self, data: bytes, arguments: dict[str, Any], error: type[Exception], path: Path
    ) -> None:
        path.write_bytes(data)
        before = open_files()
        with pytest.raises(error):
            qcow2crypt.open(path, **arguments)
        gc.collect()
        assert open_files() == before

    def test_an_image_that_is_refused_dies_quietly(self, path: Path) -> None:
        """Python calls close() on what was never quite opened, and tells of errors in it."""
        path.write_bytes(put_fields(FILE, {"crypt_method": 2}))
        program = (
            "import sys, qcow2crypt\n"
            "try: qcow2crypt.open(sys.argv[1], secret='x')\n"
            "except qcow2crypt.errors.UnsupportedFeatureError: pass\n"
        )
        home = Path(qcow2crypt.__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", program, str(path)],
            env={**os.environ, "PYTHONPATH": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_read_while_it_closes_never_gives_ciphertext(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another thread may read at any moment: here it does at the worst one."""
        image = qcow2crypt.open(path, secret=SECRET)
        file = image.host_file  # type: ignore[attr-defined]
        close = file.close
        found = []

        def close_and_read() -> None:
            found.append(image.pread(CLUSTER, 0))
            close()
            with pytest.raises(SourceError, match=r"the file is closed"):
                image.pread(CLUSTER, 0)

        monkeypatch.setattr(file, "close", close_and_read)
        image.close()
        assert found == [DISK[:CLUSTER]]


class TestThreads:
    @pytest.mark.parametrize("kind", ["path", "file object"])
    def test_eight_threads_read_at_random(self, kind: str, path: Path) -> None:
        with path.open("rb") as file:
            image = qcow2crypt.open(path if kind == "path" else file, secret=SECRET)
            wrong: list[tuple[int, int]] = []

            def read(seed: int) -> None:
                choose = random.Random(seed)
                for _ in range(60):
                    offset = choose.randrange(len(DISK))
                    length = choose.randrange(3 * CLUSTER)
                    if image.pread(length, offset) != DISK[offset : offset + length]:
                        wrong.append((offset, length))

            threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            image.close()
            assert wrong == []

    def test_the_cursor_is_shared_and_no_byte_is_given_twice(self, image: Image) -> None:
        parts: list[bytes] = []

        def read() -> None:
            while part := image.read(333):
                parts.append(part)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(map(len, parts)) == len(DISK)
        pieces = [DISK[at : at + 333] for at in range(0, len(DISK), 333)]
        assert sorted(parts) == sorted(pieces)


class TestSources:
    def test_a_path_a_file_and_memory_are_the_same(self, path: Path) -> None:
        with path.open("rb") as file, path.open("rb", buffering=0) as unbuffered:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            for source in (path, str(path), file, unbuffered, io.BytesIO(FILE), mapped):
                with qcow2crypt.open(source, secret=SECRET) as image:  # type: ignore[arg-type]
                    assert image.readall() == DISK
            mapped.close()

    def test_a_source_is_only_read(self, path: Path) -> None:
        path.chmod(0o400)
        before = path.stat()
        with qcow2crypt.open(path, secret=SECRET) as image:
            fd = image.host_file.fd  # type: ignore[attr-defined]
            flags = Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
            assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
            image.readall()
        after = path.stat()
        assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)

    def test_a_file_that_shrinks_reads_as_zeros_there(self, path: Path) -> None:
        """No error, and no hang: as QEMU, what is not there counts as zeros."""
        with qcow2crypt.open(path, format="raw") as image:
            os.truncate(path, 5000)
            assert image.pread(2000, 4000) == FILE[4000:5000] + bytes(1000)

    def test_a_source_that_goes_away_is_a_source_error(self) -> None:
        file = io.BytesIO(FILE)
        image = qcow2crypt.open(file, secret=SECRET)
        file.close()
        with pytest.raises(SourceError, match=r"cannot read '<BytesIO>' at host offset"):
            image.pread(1, 0)

    def test_probing_or_saying_the_format_is_the_same(self, path: Path) -> None:
        with (
            qcow2crypt.open(path, secret=SECRET, format="qcow2") as said,
            qcow2crypt.open(path, secret=SECRET) as probed,
        ):
            assert said.format == probed.format == "qcow2"

    def test_a_callable_for_the_passphrase_is_asked_once_and_only_if_needed(self) -> None:
        asked = []

        def ask() -> str:
            asked.append(1)
            return SECRET

        with qcow2crypt.open(io.BytesIO(FILE), secret=ask) as image:
            assert image.pread(5, 0) == DISK[:5]
        assert asked == [1]
        qcow2crypt.open(io.BytesIO(tiny().data), secret=ask).close()
        qcow2crypt.open(io.BytesIO(b"raw"), secret=ask).close()
        assert asked == [1]
