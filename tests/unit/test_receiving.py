"""A disk from a stream: pieces, ends, errors, and the same file for any number of threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError, SourceError, TargetError
from qcow2crypt.tasks.incoming import PIECE, Incoming
from qcow2crypt.tasks.manner import Manner
from qcow2crypt.tasks.receiving import Received, receive, verify_received

MIB = 1 << 20


def piped(write: Callable[[int], None]) -> int:
    """A descriptor to read what ``write`` writes to another, in a thread of its own."""
    end, start = os.pipe()

    def run() -> None:
        with os.fdopen(start, "wb"):
            write(start)

    threading.Thread(target=run, daemon=True).start()
    return end


def from_bytes(content: bytes, step: int = 1 << 20) -> int:
    def write(number: int) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(number, view[:step]) :]

    return piped(write)


def content_of(seed: int, size: int) -> bytes:
    rng = random.Random(seed)
    content = bytearray()
    while len(content) < size:
        content += rng.randbytes(512 * rng.choice([1, 7, 8, 64, 700]))
        content += bytes(512 * rng.choice([0, 1, 8, 40, 300, 4096]))
    return bytes(content[:size])


@pytest.mark.parametrize("size", [0, 1, 511, 512, PIECE, PIECE + 1, 2 * PIECE])
def test_pieces(size: int) -> None:
    content = random.Random(size).randbytes(size)
    with open(from_bytes(content, 1000), "rb") as file, Incoming(file.fileno()) as stream:
        found = bytearray()
        for piece in stream.pieces():
            assert piece.offset == len(found)
            assert piece.length % 512 == 0
            found += piece.buffer[: piece.length]
            stream.give_back(piece)
        assert stream.ended
        assert stream.size == size
    assert found == content + bytes(-size % 512)


def test_a_stream_that_is_not_waited_for() -> None:
    """The other end stays open and silent."""
    end, start = os.pipe()
    with os.fdopen(end, "rb"), os.fdopen(start, "wb"), Incoming(end) as stream:
        threading.Timer(0.05, stream.give_up).start()
        assert list(stream.pieces()) == []


def test_a_descriptor_that_cannot_be_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(SourceError, match="cannot read"):
        receive(file.fileno(), tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "options",
    [
        Qcow2Options(encryption="aes"),
        Qcow2Options(cluster_size=512),
        Qcow2Options(cluster_size=2 * MIB, encryption="aes", version=2),
        Qcow2Options(cluster_size=32768, extended_l2=True),
    ],
    ids=repr,
)
def test_files_are_equal(options: Qcow2Options, tmp_path: Path) -> None:
    content = content_of(5, 9 * MIB + 512)
    secret = "key" if options.encryption else None
    hashes = set()
    for threads in (1, 2, 4):
        target = tmp_path / f"{threads}"
        with open(from_bytes(content), "rb") as file:
            received = receive(
                file.fileno(),
                target,
                target_format="qcow2",
                target_secret=secret,
                options=options,
                manner=Manner(threads),
                hashed=True,
            )
        assert received.digest == hashlib.sha256(content).hexdigest()
        assert received.size == len(content)
        hashes.add(hashlib.sha256(target.read_bytes()).hexdigest())
        with qcow2crypt.open(target, secret) as image:
            assert image.pread(len(content), 0) == content
            assert verify_received(image, received) == received.digest
    assert len(hashes) == 1
    assert qcow2crypt.check(target).status == 0


def test_verifying_can_fail(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1024))
    with qcow2crypt.open(tmp_path / "disk", format="raw") as image:
        digest = hashlib.sha256(bytes(1024)).hexdigest()
        assert verify_received(image, Received(1024, 0, digest)) == digest
        for wrong in (Received(1024, 0, "0"), Received(512, 0, digest), Received(2048, 0, digest)):
            with pytest.raises(TargetError, match="does not hold"):
                verify_received(image, wrong)


def test_a_data_file_grows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = content_of(6, 5 * MIB)
    with open(from_bytes(content), "rb") as file:
        options = Qcow2Options(data_file="data")
        receive(file.fileno(), "target", target_format="qcow2", options=options)
    assert Path("data").read_bytes() == content


@pytest.mark.parametrize("threads", [1, 4])
def test_a_failing_target_does_not_wait_for_the_stream(threads: int, tmp_path: Path) -> None:
    """The disk becomes too large for its L1 table; the other end stays open and silent."""
    end, start = os.pipe()
    done = threading.Event()

    def write() -> None:
        with os.fdopen(start, "wb") as file:
            with contextlib.suppress(BrokenPipeError):
                file.write(content_of(7, 3 * PIECE))
            file.flush()
            done.wait(60)

    threading.Thread(target=write, daemon=True).start()
    with os.fdopen(end, "rb"), pytest.raises(SourceError, match="more than"):
        receive(end, tmp_path / "target", size=PIECE, manner=Manner(threads))
    done.set()
    assert not list(tmp_path.iterdir())


def test_what_a_stream_cannot_do(tmp_path: Path) -> None:
    for options in (
        Qcow2Options(preallocation="metadata"),
        Qcow2Options(backing_file="x", backing_format="raw"),
    ):
        with pytest.raises(ArgumentError):
            receive(0, tmp_path / "x", target_format="qcow2", options=options)


def test_progress_without_an_end(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with open(from_bytes(bytes(2 * PIECE)), "rb") as file:
        receive(file.fileno(), tmp_path / "x", progress=lambda *far: told.append(far))
    assert told[0] == (0, None)
    assert told[-1] == (2 * PIECE, 2 * PIECE)
