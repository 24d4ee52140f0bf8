"""Faults under a conversion: short reads and writes, errors at any call, a full disk."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.mounting import mounted

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import SourceError, TargetError
from qcow2crypt.tasks import resuming
from qcow2crypt.tasks.conversion import convert_images
from qcow2crypt.tasks.leftover import left_over
from qcow2crypt.tasks.manner import Manner
from qcow2crypt.tasks.receiving import receive

MIB = 1 << 20
AES = Qcow2Options(encryption="aes", cluster_size=4096)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """7 MiB with zeros in between."""
    path = tmp_path / "source" / "disk.raw"
    path.parent.mkdir()
    rng = random.Random(1)
    path.write_bytes(b"".join(rng.randbytes(900 << 10) + bytes(124 << 10) for _ in range(7)))
    return path


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An empty folder for targets."""
    path = tmp_path / "room"
    path.mkdir()
    return path


def encrypt(source: Path, target: Path, threads: int = 3) -> None:
    qcow2crypt.convert(
        source,
        target,
        source_format="raw",
        target_format="qcow2",
        target_secret="key",
        options=AES,
        threads=threads,
    )


def cut_short(rng: random.Random, views: Sequence[memoryview]) -> list[memoryview]:
    """A part of what is asked for; mostly all."""
    one = memoryview(views[0]).cast("B")
    if rng.random() < 0.5:
        return list(views)
    return [one[: max(1, rng.randrange(len(one) + 1))]] if len(one) else list(views)


def make_calls_short(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    lock = threading.Lock()

    def part(views: Sequence[memoryview]) -> list[memoryview]:
        with lock:
            return cut_short(rng, views)

    preadv, pwritev, pwrite, readv = os.preadv, os.pwritev, os.pwrite, os.readv
    pread = os.pread
    monkeypatch.setattr(
        os, "pread", lambda fd, size, at: pread(fd, len(part([memoryview(bytes(size))])[0]), at)
    )
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, part(views), at))
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: pwritev(fd, part(views), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, part([data])[0], at))
    monkeypatch.setattr(os, "readv", lambda fd, views: readv(fd, part(views)))


@pytest.mark.parametrize("threads", [1, 3])
def test_short_reads_and_writes(
    threads: int, source: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypt(source, room / "usual")
    small = AES._replace(cluster_size=512)
    make_calls_short(monkeypatch)
    encrypt(source, room / "target", threads)
    qcow2crypt.convert(room / "target", room / "back", secret="key", threads=threads)
    qcow2crypt.convert(source, room / "small", target_format="qcow2", target_secret="key",
                       options=small, threads=threads)  # fmt: skip
    qcow2crypt.convert(room / "small", room / "small back", secret="key", threads=threads)
    with source.open("rb") as file:
        receive(file.fileno(), room / "received", target_format="qcow2", target_secret="key",
                options=AES, size=7 * MIB, manner=Manner(threads))  # fmt: skip
    monkeypatch.undo()
    assert (room / "target").read_bytes() == (room / "usual").read_bytes()
    assert (room / "received").read_bytes() == (room / "usual").read_bytes()
    assert (room / "back").read_bytes() == source.read_bytes()
    assert (room / "small back").read_bytes() == source.read_bytes()


class Failing:
    """As ``call``, but call ``number`` and all after it fail."""

    def __init__(self, call: Callable[..., object], number: int, code: int) -> None:
        self._call = call
        self._number = number
        self._code = code
        self._lock = threading.Lock()
        self.count = 0

    def __call__(self, *arguments: object) -> object:
        with self._lock:
            self.count += 1
            if self.count >= self._number:
                raise OSError(self._code, os.strerror(self._code))
        return self._call(*arguments)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("number", [1, 2, 4, 6])
@pytest.mark.parametrize("name", ["preadv", "pwritev", "fsync", "replace", "ftruncate"])
def test_an_error_leaves_nothing(
    name: str,
    number: int,
    threads: int,
    source: Path,
    room: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = room / "target"
    target.write_bytes(b"old")
    before = threading.active_count()
    failing = Failing(getattr(os, name), number, errno.EIO)
    monkeypatch.setattr(os, name, failing)
    try:
        encrypt(source, target, threads)
    except (SourceError, TargetError) as error:
        assert "Input/output error" in str(error)
        content = b"old"
    else:
        assert number > 1
        assert failing.count < number or name == "fsync"  # a folder that cannot be synced is fine
        content = target.read_bytes()
        assert content[:4] == b"QFI\xfb"
    monkeypatch.undo()
    assert target.read_bytes() == content
    assert [path.name for path in room.iterdir()] == ["target"]
    assert threading.active_count() == before


def test_read_errors_say_where(source: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv

    def bad_sector(fd: int, views: Sequence[memoryview], offset: int) -> int:
        if offset <= 5 * MIB < offset + sum(len(view) for view in views):
            raise OSError(errno.EIO, "bad sector")
        return preadv(fd, views, offset)

    monkeypatch.setattr(os, "preadv", bad_sector)
    with pytest.raises(SourceError, match=r"host offset 0x4.*bad sector"):
        encrypt(source, room / "target")
    assert not list(room.iterdir())


def test_a_full_disk(source: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "none") as small:
        (small / "target").write_bytes(b"old")
        for threads in (1, 3):
            with pytest.raises(TargetError, match="No space left"):
                encrypt(source, small / "target", threads)
            assert (small / "target").read_bytes() == b"old"
            assert [path.name for path in small.iterdir()] == ["target"]


def test_a_full_disk_that_gets_room(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "INTERVAL", MIB)
    encrypt(source, tmp_path / "usual")

    def convert(target: Path) -> None:
        with qcow2crypt.open(source, format="raw") as image:
            convert_images(
                [image],
                target,
                target_format="qcow2",
                target_secret="key",
                options=AES,
                manner=Manner(1),
                resume=True,
            )

    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=6m", "none") as small:
        (small / "filler").write_bytes(bytes(MIB))
        target = small / "target"
        with pytest.raises(TargetError, match="No space left"):
            convert(target)
        assert len(left_over(target)) == 2
        (small / "filler").unlink()
        with pytest.raises(TargetError, match="No space left"):
            convert(target)
        assert len(left_over(target)) == 2
        part, journal = map(Path, left_over(target))
        for path in (part, journal):  # the owner finds a larger disk
            (tmp_path / path.name).write_bytes(path.read_bytes())
    convert(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == (tmp_path / "usual").read_bytes()
    assert left_over(tmp_path / "target") == ()


def test_a_journal_that_cannot_be_written(
    source: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "INTERVAL", MIB)
    usual = os.fsync
    monkeypatch.setattr(os, "fsync", Failing(usual, 3, errno.ENOSPC))
    with (
        qcow2crypt.open(source, format="raw") as image,
        pytest.raises(TargetError, match="journal"),
    ):
        convert_images([image], room / "target", resume=True)
    monkeypatch.setattr(os, "fsync", usual)
    with qcow2crypt.open(source, format="raw") as image:
        convert_images([image], room / "target", resume=True)
    assert (room / "target").read_bytes() == source.read_bytes()
    assert [path.name for path in room.iterdir()] == ["target"]
