"""Compressed clusters of a file: long reads are the same as one cluster after the other."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import CompressedDataError, SourceError
from qcow2crypt.image import decompressed
from qcow2crypt.image.decompressed import DecompressedClusters
from qcow2crypt.image.extents import CompressedRun
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.compressed import zstd_module
from qcow2crypt.image.qcow2.header import COMPRESSION_DEFLATE, COMPRESSION_ZSTD

SIZE = 512
COUNT = 40
GUEST = 7 * SIZE
"""Guest offset of the first cluster."""
Limits = tuple[int, int, int]


def clusters() -> tuple[bytes, list[CompressedRun], bytes]:
    """A file, the runs in it, and the disk: behind one another, apart, backwards and twice."""
    chosen = random.Random(1)
    file = bytearray(chosen.randbytes(100))
    runs, disk = [], bytearray()
    for number in range(COUNT):
        plain = chosen.randbytes(40) * 13
        disk += plain[:SIZE]
        deflater = zlib.compressobj(wbits=-12)
        stored = deflater.compress(plain[:SIZE]) + deflater.flush()
        if number % 7 == 6:
            file += bytes(chosen.randrange(3000))
        at = len(file)
        file += stored
        runs.append(CompressedRun(at, -(-(at + len(stored)) // 512) * 512 - at))
    order = [*range(20), *range(29, 19, -1), 5, 5, *range(30, COUNT)]
    return (
        bytes(file),
        [runs[number] for number in order],
        b"".join(disk[number * SIZE : (number + 1) * SIZE] for number in order),
    )


FILE, RUNS, DISK = clusters()


class Watched(io.BytesIO):
    """Counts the reads, and fails where it is told to."""

    def __init__(self, data: bytes, bad: int | None = None) -> None:
        super().__init__(data)
        self.bad = bad
        self.reads: list[tuple[int, int]] = []

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        start = self.tell()
        self.reads.append((start, len(buffer)))
        if self.bad is not None and start <= self.bad < start + len(buffer):
            raise OSError(5, "Input/output error")
        return super().readinto(buffer)


def opened(file: Watched) -> DecompressedClusters:
    return DecompressedClusters(HostFile(file), SIZE, COMPRESSION_DEFLATE)


def read(found: DecompressedClusters, first: int, end: int) -> bytes:
    """Bytes ``first`` to ``end`` of the disk, in as many calls as it takes."""
    buffer = memoryview(bytearray(end - first))
    done = 0
    while done < len(buffer):
        position = GUEST + first + done
        runs = RUNS[(first + done) // SIZE :]
        done += found.read(buffer[done:], position, runs)
    return bytes(buffer)


@given(
    ends=st.tuples(st.integers(0, len(DISK)), st.integers(0, len(DISK))).map(sorted),
    limits=st.sampled_from([(1, 1, 0), (1, 900, 0), (SIZE, 5000, 700), (4096, 1 << 20, 4096)]),
)
def test_any_range(ends: list[int], limits: Limits) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("PASSING_BYTES", "READ_BYTES", "GAP_MAX"), limits, strict=True):
            patch.setattr(decompressed, f"_{name}", value)
        assert read(opened(Watched(FILE)), *ends) == DISK[ends[0] : ends[1]]


def test_no_more_is_filled_than_there_are_clusters() -> None:
    buffer = bytearray(3 * SIZE)
    filled = opened(Watched(FILE)).read(memoryview(buffer), GUEST + 12, RUNS[:2])
    assert filled == 2 * SIZE - 12
    assert buffer == DISK[12 : 2 * SIZE].ljust(3 * SIZE, b"\0")


def test_neighbours_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", SIZE)
    file = Watched(FILE)
    found = opened(file)
    file.reads.clear()
    assert read(found, 0, 20 * SIZE) == DISK[: 20 * SIZE]
    assert len(file.reads) == 1
    file.reads.clear()
    monkeypatch.setattr(decompressed, "_READ_BYTES", 1000)
    assert read(found, 0, 20 * SIZE) == DISK[: 20 * SIZE]
    assert 1 < len(file.reads) < 20
    assert max(length for _, length in file.reads) <= 1000


def test_a_place_that_cannot_be_read_spares_the_clusters_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", SIZE)
    bad = RUNS[8]
    found = opened(Watched(FILE, bad.host_offset + bad.length - 1))
    buffer = memoryview(bytearray(20 * SIZE))
    with pytest.raises(SourceError):
        found.read(buffer, GUEST, RUNS)
    good = next(n for n, run in enumerate(RUNS) if sum(run) > bad.host_offset + bad.length - 1)
    assert buffer[: good * SIZE] == DISK[: good * SIZE]
    assert found.read(buffer, GUEST, RUNS[:good]) == good * SIZE


def test_an_error_names_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", SIZE)
    run = RUNS[3]
    damaged = bytearray(FILE)
    damaged[run.host_offset] = 0xFF
    with pytest.raises(CompressedDataError) as caught:
        read(opened(Watched(bytes(damaged))), 0, 10 * SIZE)
    assert caught.value.offset == run.host_offset
    assert caught.value.guest_offset == GUEST + 3 * SIZE


def test_a_long_read_does_not_drive_out_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", 4 * SIZE)
    file = Watched(FILE)
    found = opened(file)
    assert read(found, 10, 20) == DISK[10:20]
    file.reads.clear()
    assert read(found, 20, 30) == DISK[20:30]
    assert not file.reads
    assert read(found, 0, 20 * SIZE) == DISK[: 20 * SIZE]
    file.reads.clear()
    assert read(found, 30, 40) == DISK[30:40]
    assert not file.reads
    assert read(found, SIZE, SIZE + 5) == DISK[SIZE : SIZE + 5]
    assert file.reads


@pytest.fixture(params=["many at once", "one by one"])
def zstd_clusters(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[bytearray, list[CompressedRun], bytes]:
    """The same as ``clusters`` with frames of zstd, which some libraries take together."""
    if request.param == "one by one":
        monkeypatch.setattr(decompressed, "many_decompressor", lambda *_: None)
    else:
        pytest.importorskip("zstandard", reason="zstandard is not installed")
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", SIZE)
    monkeypatch.setattr(decompressed, "_AT_ONCE_BYTES", 7 * SIZE)
    file, runs = bytearray(), []
    for at in range(0, len(DISK), SIZE):
        stored = zstd_module().compress(DISK[at : at + SIZE])
        runs.append(CompressedRun(len(file), len(stored) + 100))
        file += stored
    return file, runs, DISK


def test_frames_of_zstd(zstd_clusters: tuple[bytearray, list[CompressedRun], bytes]) -> None:
    file, runs, disk = zstd_clusters
    found = DecompressedClusters(HostFile(Watched(bytes(file))), SIZE, COMPRESSION_ZSTD)
    for first in range(len(runs)):
        for end in (first + 3, first + 11, len(runs)):
            buffer = memoryview(bytearray(len(disk[first * SIZE : end * SIZE])))
            assert found.read(buffer, first * SIZE, runs[first:]) == len(buffer)
            assert buffer == disk[first * SIZE : end * SIZE]


@pytest.mark.parametrize("bad", [0, 6, 7, 23])
def test_a_damaged_frame_of_zstd_among_others(
    zstd_clusters: tuple[bytearray, list[CompressedRun], bytes], bad: int
) -> None:
    """Those before it are there, and the error tells which one it is."""
    file, runs, disk = zstd_clusters
    file[runs[bad].host_offset] ^= 1
    found = DecompressedClusters(HostFile(Watched(bytes(file))), SIZE, COMPRESSION_ZSTD)
    buffer = memoryview(bytearray(len(disk)))
    with pytest.raises(CompressedDataError) as caught:
        found.read(buffer, GUEST, runs)
    assert caught.value.offset == runs[bad].host_offset
    assert caught.value.guest_offset == GUEST + bad * SIZE
    assert buffer[: bad * SIZE] == disk[: bad * SIZE]


def test_many_at_once_are_taken_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed on: runs relative to what was read, no more of them than fit."""
    asked: list[list[tuple[int, int]]] = []

    def many(data: memoryview, places: list[tuple[int, int]]) -> list[bytes]:
        asked.append(places)
        return [zlib.decompress(data[start:end], wbits=-15)[:SIZE] for start, end in places]

    monkeypatch.setattr(decompressed, "many_decompressor", lambda *_: many)
    monkeypatch.setattr(decompressed, "_PASSING_BYTES", SIZE)
    monkeypatch.setattr(decompressed, "_AT_ONCE_BYTES", 6 * SIZE)
    assert read(opened(Watched(FILE)), 0, 20 * SIZE) == DISK[: 20 * SIZE]
    base = RUNS[0].host_offset
    places = [(at - base, at - base + length) for at, length in RUNS[:18]]
    assert asked == [places[:6], places[6:12], places[12:18]]  # two are left, and not worth it
