"""An image as a Python file object, and its positional reads.

One image with every kind of cluster, encrypted, and its whole guest disk beside it.
"""

from __future__ import annotations

import gc
import io
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage.tiny import COMPRESSED, COPIED, ZERO, put_fields, tiny
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    HeaderError,
    Qcow2CryptError,
    SecretRequiredError,
    SourceError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import ExtentKind, Image

SECRET = "the passphrase"
CLUSTER = 4096
CLUSTERS = 12


def make_image() -> tuple[bytes, bytes]:
    """The image file and its guest disk, put together by hand; 4 KiB clusters, 12 of them."""
    noise = random.Random(7)
    cipher = qcow2crypt.SectorCipher.from_passphrase(SECRET)
    disk = bytearray(CLUSTER * CLUSTERS)
    l2 = [0] * (CLUSTER // 8)
    file = bytearray(put_fields(tiny(cluster_bits=12).data[: 5 * CLUSTER], {"crypt_method": 1}))
    # data data hole zero packed data(elsewhere) zero-with-cluster packed data data data hole
    order = {0: "data", 1: "data", 4: "packed", 5: "data", 7: "packed", 8: "data", 9: "data", 10: "data"}
    places = [5, 0, 10, 1, 9, 8, 4, 7]
    for index in places:
        at = index * CLUSTER
        plain = noise.randbytes(CLUSTER // 16) * 16
        disk[at : at + CLUSTER] = plain
        if order[index] == "packed":
            deflater = zlib.compressobj(wbits=-12)
            stored = deflater.compress(plain) + deflater.flush()
            l2[index] = COMPRESSED | (len(stored) // 512 + 1) << 58 | len(file)
            file += stored
        else:
            file += bytes(-len(file) % CLUSTER)
            l2[index] = len(file) | COPIED
            file += cipher.encrypt(plain, at // 512)
    l2[3] = ZERO
    l2[6] = 5 * CLUSTER | ZERO | COPIED
    file[4 * CLUSTER : 5 * CLUSTER] = struct.pack(f">{len(l2)}Q", *l2)
    # The disk ends inside its last cluster but one.
    size = CLUSTER * (CLUSTERS - 1) + 1536
    return put_fields(bytes(file), {"size": size}), bytes(disk[:size])


FILE, DISK = make_image()


@pytest.fixture
def image() -> Iterator[Image]:
    with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(FILE)
    return file


def test_the_image_has_every_kind_of_cluster(image: Image) -> None:
    assert {extent.kind for extent in image.extents()} == set(ExtentKind)


class TestReads:
    def test_the_whole_disk(self, image: Image) -> None:
        assert image.size == len(DISK)
        assert image.readall() == DISK
        assert image.readall() == b""
        assert image.pread(len(DISK), 0) == DISK

    @given(st.data())
    def test_any_range(self, data: st.DataObject) -> None:
        borders = st.integers(0, CLUSTERS).map(lambda n: n * CLUSTER) | st.integers(
            0, len(DISK) // 512
        ).map(lambda n: n * 512)
        near = st.tuples(borders, st.integers(-17, 17)).map(lambda pair: max(0, sum(pair)))
        offset = data.draw(near | st.integers(0, len(DISK) + 600))
        length = data.draw(st.integers(0, 1100) | st.integers(0, 3 * CLUSTER))
        with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as image:
            assert image.pread(length, offset) == DISK[offset : offset + length]

    def test_every_small_range_around_the_borders(self, image: Image) -> None:
        for border in (512, CLUSTER, 2 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER, 8 * CLUSTER, len(DISK)):
            for start in range(border - 3, border + 4):
                for length in (0, 1, 2, 3, 4, 509, 510, 511, 512, 513, 514, 515, 1023, 1024, 1025):
                    assert image.pread(length, start) == DISK[start : start + length]

    @pytest.mark.parametrize("offset", [len(DISK), len(DISK) + 1, 2**40, 2**63, 2**70])
    def test_behind_the_end_is_nothing(self, offset: int, image: Image) -> None:
        assert image.pread(10, offset) == b""
        assert image.preadinto(bytearray(10), offset) == 0

    def test_short_at_the_end(self, image: Image) -> None:
        buffer = bytearray(b"\xff" * 20)
        assert image.preadinto(buffer, len(DISK) - 7) == 7
        assert buffer == DISK[-7:] + b"\xff" * 13

    @pytest.mark.parametrize("length", [2**40, 2**63, 2**70])
    def test_more_than_there_is(self, length: int, image: Image) -> None:
        assert image.pread(length, len(DISK) - 5) == DISK[-5:]

    @pytest.mark.parametrize(
        "make",
        [
            bytearray,
            lambda n: memoryview(bytearray(n)),
            lambda n: array("B", bytes(n)),
            lambda n: array("H", bytes(n)),
            lambda n: memoryview(array("d", bytes(n))),
            lambda n: mmap.mmap(-1, n),
            lambda n: memoryview(bytearray(n)).cast("B", (8, n // 8)),
        ],
    )
    def test_into_any_buffer(self, make: Any, image: Image) -> None:
        buffer = make(1024)
        assert image.preadinto(buffer, 700) == 1024
        assert bytes(buffer) == DISK[700:1724]

    def test_into_a_part_of_a_buffer(self, image: Image) -> None:
        buffer = bytearray(3000)
        assert image.preadinto(memoryview(buffer)[100:200], 511) == 100
        assert buffer == bytes(100) + DISK[511:611] + bytes(2800)

    def test_into_nothing(self, image: Image) -> None:
        assert image.preadinto(bytearray(), 5) == 0
        assert image.pread(0, 5) == b""

    @pytest.mark.parametrize(
        "buffer", [b"read-only", memoryview(b"x" * 8), 7, None, memoryview(bytearray(8))[::2]]
    )
    def test_what_is_no_buffer(self, buffer: Any, image: Image) -> None:
        with pytest.raises(ArgumentError):
            image.preadinto(buffer, 0)

    def test_what_is_no_range(self, image: Image) -> None:
        with pytest.raises(ArgumentError, match=r"guest offset -1 is negative"):
            image.pread(1, -1)
        with pytest.raises(ArgumentError, match=r"guest offset -1 is negative"):
            image.preadinto(bytearray(1), -1)
        with pytest.raises(ArgumentError, match=r"length -1 is negative"):
            image.pread(-1, 0)


class TestFileObject:
    def test_reading_moves_the_cursor(self, image: Image) -> None:
        assert image.tell() == 0
        assert image.read(10) == DISK[:10]
        assert image.tell() == 10
        assert image.read(600) == DISK[10:610]
        assert image.readinto(bytearray(5)) == 5
        assert image.tell() == 615
        assert image.read() == DISK[615:]
        assert image.tell() == len(DISK)
        assert image.read(1) == b""
        assert image.readinto(bytearray(1)) == 0

    def test_positional_reads_do_not(self, image: Image) -> None:
        image.seek(100)
        image.pread(50, 7000)
        image.preadinto(bytearray(50), 7000)
        assert image.tell() == 100

    def test_seeking(self, image: Image) -> None:
        assert image.seek(100) == 100
        assert image.seek(5, os.SEEK_CUR) == 105
        assert image.seek(-5, os.SEEK_END) == len(DISK) - 5
        assert image.read() == DISK[-5:]
        assert image.seek(2**40) == 2**40
        assert image.read(5) == b""
        assert image.seek(0) == 0

    @pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-1, 1), (-(2**40), 2), (0, 3), (0, 9)])
    def test_seeking_where_nothing_is(self, offset: int, whence: int, image: Image) -> None:
        with pytest.raises(ArgumentError):
            image.seek(offset, whence)
        assert image.tell() == 0

    def test_what_it_can_do(self, image: Image) -> None:
        assert isinstance(image, io.RawIOBase)
        assert image.readable()
        assert image.seekable()
        assert not image.writable()
        assert not image.isatty()
        assert not image.closed
        with pytest.raises(OSError, match="fileno"):
            image.fileno()
        with pytest.raises(OSError, match="truncate"):
            image.truncate(0)

    def test_inside_a_buffered_reader(self, image: Image) -> None:
        reader = io.BufferedReader(image, buffer_size=1000)
        assert reader.read(700) == DISK[:700]
        assert reader.peek(1)[:1] == DISK[700:701]
        assert reader.read1(10) == DISK[700:710]
        assert reader.seek(-20, os.SEEK_END) == len(DISK) - 20
        assert reader.read() == DISK[-20:]
        reader.seek(4090)
        buffer = bytearray(5000)
        assert reader.readinto(buffer) == 5000
        assert buffer == DISK[4090:9090]
        reader.seek(0)
        assert b"".join(iter(lambda: reader.read(777), b"")) == DISK
        reader.close()
        assert image.closed

    def test_lines(self, image: Image) -> None:
        assert b"".join(io.BufferedReader(image)) == DISK

    def test_copying_with_the_standard_library(self, image: Image, tmp_path: Path) -> None:
        import shutil

        with (tmp_path / "copy").open("wb") as target:
            shutil.copyfileobj(image, target, 1234)
        assert (tmp_path / "copy").read_bytes() == DISK

    def test_its_text_shows_no_secret(self, image: Image) -> None:
        assert repr(image) == f"<Qcow2Image '<BytesIO>' {len(DISK)} bytes>"
        image.close()
        assert repr(image) == f"<Qcow2Image '<BytesIO>' {len(DISK)} bytes closed>"


class TestClosing:
    CALLS = {
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

    @pytest.mark.parametrize("format_name", ["qcow2", "raw"])
    @pytest.mark.parametrize("call", CALLS)
    def test_a_closed_image_says_so(self, call: str, format_name: str) -> None:
        image = qcow2crypt.open(io.BytesIO(FILE), secret=SECRET, format=format_name)
        image.close()
        image.close()
        assert image.closed
        with pytest.raises(ValueError, match="closed"):
            self.CALLS[call](image)

    def test_leaving_the_context_closes(self, path: Path) -> None:
        before = set(os.listdir("/proc/self/fd"))
        with qcow2crypt.open(path, secret=SECRET) as image:
            assert image.pread(5, 0) == DISK[:5]
        assert image.closed
        assert set(os.listdir("/proc/self/fd")) == before

    def test_a_file_object_stays_open(self, path: Path) -> None:
        with path.open("rb") as file:
            qcow2crypt.open(file, secret=SECRET).close()
            assert not file.closed
            with qcow2crypt.open(file, secret=SECRET) as again:
                assert again.pread(5, 0) == DISK[:5]

    def test_the_key_is_let_go(self, image: Image) -> None:
        image.close()
        assert image._cipher is None  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("data", "arguments", "error"),
        [
            (b"QFI\xfb\0\0\0\x09", {}, HeaderError),
            (put_fields(FILE, {"crypt_method": 2}), {"secret": SECRET}, UnsupportedFeatureError),
            (FILE, {}, SecretRequiredError),
            (FILE, {"secret": SECRET, "engine": "none such"}, Qcow2CryptError),
            (FILE, {"secret": SECRET, "format": "none such"}, ArgumentError),
            (FILE, {"secret": SECRET, "mode": "r+"}, UnsupportedFeatureError),
        ],
    )
    def test_an_image_that_is_refused_leaves_nothing_open(
        self, data: bytes, arguments: dict[str, Any], error: type[Exception], path: Path
    ) -> None:
        path.write_bytes(data)
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(error):
            qcow2crypt.open(path, **arguments)
        gc.collect()
        assert set(os.listdir("/proc/self/fd")) == before

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


class TestExtents:
    @given(st.integers(0, len(DISK)), st.integers(0, len(DISK)) | st.none())
    def test_extents_are_a_partition_of_the_range(self, start: int, length: int | None) -> None:
        with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as image:
            end = len(DISK) if length is None else min(len(DISK), start + length)
            found = list(image.extents(start, None if length is None else end - start))
            position = start
            for extent in found:
                assert extent.guest_offset == position
                assert extent.length > 0
                if extent.reads_as_zero:
                    assert not any(DISK[position : position + extent.length])
                position += extent.length
            assert position == end

    def test_the_image_of_this_test(self, image: Image) -> None:
        kinds = [(extent.kind.value, extent.length) for extent in image.extents()]
        assert kinds == [
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("unallocated", CLUSTER),
            ("zero", CLUSTER),
            ("compressed", CLUSTER),
            ("data", CLUSTER),
            ("zero", CLUSTER),
            ("compressed", CLUSTER),
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("data", CLUSTER),
            ("unallocated", 1536),
        ]

    @pytest.mark.parametrize(
        ("start", "length"),
        [(-1, 1), (0, -1), (0, len(DISK) + 1), (len(DISK) + 1, 0), (5, -1), (2**70, None)],
    )
    def test_what_is_no_range(self, start: int, length: int | None, image: Image) -> None:
        with pytest.raises(ArgumentError, match=r"is not inside the disk"):
            list(image.extents(start, length))

    def test_the_end_is_a_range(self, image: Image) -> None:
        assert list(image.extents(len(DISK))) == []
        assert list(image.extents(len(DISK), 0)) == []


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
