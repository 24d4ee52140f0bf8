"""The writable guest disk: arguments, alignment, the cursor, threads, what a flush writes."""

from __future__ import annotations

import io
import random
import threading
from array import array
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    FormatError,
    Qcow2CryptError,
    ReadOnlyError,
    TargetError,
)
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.layers import Ranges
from qcow2crypt.image.qcow2.edit import metadata
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.raw import RawImage
from qcow2crypt.tasks.checking import check
from qcow2crypt.units import GuestOffset

KEY = "hunter2"
SIZE = 1 << 20
KINDS = {
    "plain": Qcow2Options(cluster_size=4096),
    "aes": Qcow2Options(cluster_size=4096, encryption="aes"),
    "aes-v2": Qcow2Options(cluster_size=512, encryption="aes", version=2),
    "aes-subclusters": Qcow2Options(cluster_size=16384, encryption="aes", extended_l2=True),
    "aes-wide": Qcow2Options(cluster_size=512, encryption="aes", refcount_bits=64),
}


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A new image of each kind."""
    return make(tmp_path / "disk.qcow2", KINDS[request.param])


def make(path: Path, options: Qcow2Options | None = None) -> Path:
    options = options or KINDS["aes"]
    qcow2crypt.create(path, SIZE, options=options, secret=KEY if options.encryption else None)
    return path


def edit(path: Path) -> Qcow2Editor:
    image = qcow2crypt.open(path, KEY, "r+")
    assert isinstance(image, Qcow2Editor)
    return image


def assert_sound(path: Path) -> None:
    result = check(path)
    assert not result.corruptions, result
    assert not result.leaks, result


def test_a_fresh_image_is_not_touched_by_opening_it(path: Path) -> None:
    before = path.read_bytes()
    with edit(path) as image:
        assert image.writable()
        image.pread(SIZE, 0)
        image.flush()
        image.pwrite(b"", 7)
        image.write_zeroes(7, 0)
        image.discard(7, 0)
    assert path.read_bytes() == before


def test_what_is_written_at_any_offset_is_read(path: Path) -> None:
    rng = random.Random(0)
    model = bytearray(SIZE)
    with edit(path) as image:
        for _ in range(60):
            start = rng.randrange(SIZE)
            length = min(rng.choice([1, 13, 512, 5000, 60000]), SIZE - start)
            data = rng.randbytes(length)
            assert image.pwrite(data, start) == length
            model[start : start + length] = data
        assert image.pread(SIZE, 0) == model
    with qcow2crypt.open(path, KEY) as image:
        assert image.pread(SIZE, 0) == model
    assert_sound(path)


def test_zeroes_discard_and_resize(path: Path) -> None:
    rng = random.Random(1)
    model = bytearray(rng.randbytes(SIZE))
    cluster = qcow2crypt.open(path, KEY).structure.header.cluster_size  # type: ignore[attr-defined]
    with edit(path) as image:
        image.pwrite(model, 0)
        image.write_zeroes(100, 70000)
        model[100:70100] = bytes(70000)
        image.write_zeroes(200_000, 50_000, unmap=True)
        model[200_000:250_000] = bytes(50_000)
        image.discard(300_001, 100_000)
        first, last = -(-300_001 // cluster) * cluster, 400_001 // cluster * cluster
        model[first:last] = bytes(last - first)
        assert image.pread(SIZE, 0) == model
        assert image.truncate(SIZE // 2 + 512) == SIZE // 2 + 512
        assert image.size == SIZE // 2 + 512
        image.truncate(2 * SIZE)
        del model[SIZE // 2 + 512 :]
        model.extend(bytes(2 * SIZE - len(model)))
        assert image.pread(2 * SIZE, 0) == model
        image.pwrite(b"end", 2 * SIZE - 3)
        model[-3:] = b"end"
    with qcow2crypt.open(path, KEY) as image:
        assert image.pread(3 * SIZE, 0) == model
    assert_sound(path)


def test_a_zeroed_image_gives_its_space_back(path: Path) -> None:
    with edit(path) as image:
        image.pwrite(b"x" * SIZE, 0)
        image.flush()
        full = image.host_file.size
        image.discard(0, SIZE)
        image.flush()
        image.pwrite(b"y" * SIZE, 0)
        image.flush()
        assert image.host_file.size <= full, "freed clusters were not used again"
    assert_sound(path)


def test_a_disk_that_shrinks_takes_its_file_along(tmp_path: Path) -> None:
    path = make(tmp_path / "disk.qcow2")
    with edit(path) as image:
        empty = image.host_file.size
        image.pwrite(b"x" * SIZE, 0)
        image.truncate(0)
    assert path.stat().st_size <= empty + 4096
    assert_sound(path)


def test_ranges_outside_the_disk_are_refused(path: Path) -> None:
    before = path.read_bytes()
    with edit(path) as image:
        for offset, length in ((-1, 1), (SIZE, 1), (SIZE - 1, 2), (0, -1), (1 << 70, 1)):
            if length > 0:
                with pytest.raises(ArgumentError):
                    image.pwrite(b"x" * length, offset)
            with pytest.raises(ArgumentError):
                image.write_zeroes(offset, length)
            with pytest.raises(ArgumentError):
                image.discard(offset, length)
        for size in (-512, 100, 1 << 62):
            with pytest.raises(ArgumentError):
                image.truncate(size)
        with pytest.raises(ArgumentError, match="cannot write"):
            image.pwrite("text", 0)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    with pytest.raises(ArgumentError, match="closed"):
        image.pwrite(b"x", 0)
    image.close()


def test_buffers_of_any_kind_are_written(path: Path) -> None:
    with edit(path) as image:
        image.pwrite(array("H", [0x4141] * 300), 0)
        image.pwrite(memoryview(bytearray(b"B" * 600)), 600)
        assert image.pread(1200, 0) == b"A" * 600 + b"B" * 600


def test_the_cursor_writes_and_reads(path: Path) -> None:
    with edit(path) as image:
        image.seek(1000)
        assert image.write(b"hello") == 5
        assert image.tell() == 1005
        image.seek(-5, io.SEEK_CUR)
        assert image.read(5) == b"hello"
        image.seek(4096)
        assert image.truncate() == 4096


def test_an_image_that_is_only_read_refuses_writes(path: Path) -> None:
    with qcow2crypt.open(path, KEY) as image:
        assert not image.writable()
        for change in (
            lambda: image.pwrite(b"x", 0),
            lambda: image.write(b"x"),
            lambda: image.write_zeroes(0, 1),
            lambda: image.discard(0, 1),
            lambda: image.truncate(0),
        ):
            with pytest.raises(ReadOnlyError):
                change()
    with pytest.raises(ReadOnlyError):
        Qcow2Editor(HostFile(path), secret=KEY)


def test_much_that_is_dirty_is_written_early(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "_DIRTY_BYTES_MAX", 0)
    monkeypatch.setattr(metadata, "_DIRTY_CLUSTERS_MIN", 1)
    commits = []
    commit = metadata.Metadata.commit

    def counted(meta: metadata.Metadata) -> None:
        commits.append(meta)
        commit(meta)

    monkeypatch.setattr(metadata.Metadata, "commit", counted)
    model = bytearray(random.Random(2).randbytes(SIZE))
    with edit(path) as image:
        image.pwrite(model, 0)
        image.write_zeroes(SIZE // 4, SIZE // 2, unmap=True)
        model[SIZE // 4 : SIZE // 4 * 3] = bytes(SIZE // 2)
        assert commits
        assert image.pread(SIZE, 0) == model
    assert_sound(path)


def test_flush_puts_everything_into_the_file(path: Path, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(100_000)
    with edit(path) as image:
        image.pwrite(data, 12345)
        image.flush()
        copy = tmp_path / "copy.qcow2"
        copy.write_bytes(path.read_bytes())
        assert_sound(copy)
        with qcow2crypt.open(copy, KEY) as other:
            assert other.pread(len(data), 12345) == data


def test_readers_see_all_of_a_write_or_nothing(path: Path) -> None:
    """Many threads: every read of a range that is always written as one gives one pattern."""
    length = 3 * 4096
    wrong: list[bytes] = []
    stop = threading.Event()
    with edit(path) as image:
        image.pwrite(bytes(length), 2048)

        def read() -> None:
            while not stop.is_set():
                found = image.pread(length, 2048)
                if len(set(found)) != 1:
                    wrong.append(found)
                    return

        def write(first: int) -> None:
            rng = random.Random(first)
            for turn in range(40):
                image.pwrite(bytes([first + turn]) * length, 2048)
                other = 300_000 + 100_000 * (first // 100) + rng.randrange(50_000)
                image.pwrite(b"\xff" * 3000, other)
                if turn % 7 == 0:
                    image.discard(2048 // 512 * 512, 0)
                    image.flush()

        readers = [threading.Thread(target=read) for _ in range(3)]
        writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100)]
        for thread in (*readers, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in readers:
            thread.join()
    assert not wrong
    assert_sound(path)


def test_a_write_between_the_layers_of_a_read(tmp_path: Path) -> None:
    """A read that has left the image for its backing file gives what was there before."""

    class Meddling(RawImage):
        """Whoever reads it finds that the image above was written meanwhile."""

        def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
            if meddling:
                meddling.pop()
                image.pwrite(b"n" * 8192, 0)
            return super()._read_own(view, offset)

    path = tmp_path / "over"
    options = Qcow2Options(cluster_size=4096, backing_file="base", backing_format="raw")
    qcow2crypt.create(path, SIZE, options=options, open_backing=False)
    base = Meddling(HostFile(io.BytesIO(b"o" * SIZE)))
    meddling: list[None] = []
    with Qcow2Editor(HostFile(path, writable=True), backing=base) as image:
        image.pwrite(b"o" * 4096, 0)
        meddling.append(None)
        assert image.pread(8192, 0) == b"o" * 8192
        assert not meddling
        assert image.pread(8192, 0) == b"n" * 8192
    assert_sound(path)


def test_an_error_at_close_still_closes(tmp_path: Path) -> None:
    content = make(tmp_path / "disk.qcow2").read_bytes()

    class Broken(io.BytesIO):
        broken = False

        def write(self, data: object, /) -> int:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().write(data)  # type: ignore[arg-type]

    file = Broken(content)
    image = Qcow2Editor(HostFile(file, writable=True), secret=KEY)
    image.pwrite(b"x" * 512, 0)
    file.broken = True
    with pytest.raises(TargetError, match="Input/output error"):
        image.close()
    assert image.closed
    image.close()


def test_damaged_tables_give_our_errors_and_no_other(tmp_path: Path) -> None:
    """Bytes of all metadata changed at random; then every kind of write is tried."""
    for name, options in KINDS.items():
        path = make(tmp_path / f"{name}.qcow2", options)
        with edit(path) as image:
            image.pwrite(random.Random(4).randbytes(200_000), 100_000)
        content = path.read_bytes()
        words = [at for at in range(0, len(content), 8) if any(content[at : at + 8])]
        tables = [at for at in words if at < 8 * options.cluster_size]
        for seed in range(60):
            rng = random.Random(seed)
            damaged = bytearray(content)
            for at in rng.sample(tables, 3):
                damaged[at + rng.randrange(8)] = rng.randrange(256)
            try_everything(bytes(damaged), rng)


def try_everything(content: bytes, rng: random.Random) -> None:
    changes = (
        lambda image, at: image.pwrite(b"x" * 3000, at),
        lambda image, at: image.write_zeroes(at, 9000, unmap=True),
        lambda image, at: image.discard(at, 40_000),
        lambda image, at: image.truncate(rng.randrange(1, 2000) * 512),
        lambda image, _: image.flush(),
    )
    try:
        image = Qcow2Editor(HostFile(io.BytesIO(content), writable=True), secret=KEY)
    except Qcow2CryptError:
        return
    for _ in range(8):
        at = rng.randrange(max(1, min(image.size, SIZE)))
        try:
            rng.choice(changes)(image, at)
        except Qcow2CryptError:
            continue
    try:
        image.close()
    except Qcow2CryptError as error:
        assert isinstance(error, (FormatError, TargetError))
