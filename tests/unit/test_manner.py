"""How a disk is copied: the rate, the caches, and that they change no byte."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import Qcow2Options, output, pagecache
from qcow2crypt.errors import ArgumentError
from qcow2crypt.pagecache import CACHE_MODES, CacheDropper, CacheMode
from qcow2crypt.tasks.manner import Manner
from qcow2crypt.tasks.ratelimit import RateLimit

MIB = 1 << 20


class Clock:
    """Time that goes on only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def read(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def test_a_rate_is_kept() -> None:
    clock = Clock()
    limit = RateLimit(1000, clock=clock.read, wait=clock.wait)
    for _ in range(5):
        limit.take(500)
    assert clock.now == pytest.approx(102.0)  # the fifth begins when four are paid for
    clock.now += 60
    before = clock.now
    limit.take(500)  # idle time is not saved up
    limit.take(500)
    assert clock.now == pytest.approx(before + 0.5)


def test_nobody_waits_after_giving_up() -> None:
    limit = RateLimit(1)
    limit.take(1 << 40)
    threading.Timer(0.05, limit.give_up).start()
    limit.take(1)
    limit.take(1)


@pytest.mark.parametrize(
    "wrong",
    [{"threads": 0}, {"threads": 17}, {"rate_limit": -1}, {"target_cache": "off"}],
    ids=str,
)
def test_manners_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError):
        Manner(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        Manner()._replace(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", CACHE_MODES)
@pytest.mark.parametrize("threads", [1, 3])
def test_no_manner_changes_a_byte(
    mode: CacheMode, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, usual, target = tmp_path / "source", tmp_path / "usual", tmp_path / "target"
    source.write_bytes(os.urandom(3 * MIB) + bytes(MIB) + os.urandom(MIB))
    options = Qcow2Options(encryption="aes", cluster_size=4096)
    synced: list[int] = []
    monkeypatch.setattr("qcow2crypt.targetfile.os.fsync", synced.append)
    for path, how in ((usual, "writeback"), (target, mode)):
        synced.clear()
        qcow2crypt.convert(
            source,
            path,
            source_format="raw",
            target_format="qcow2",
            target_secret="x",
            options=options,
            threads=threads,
            rate_limit=500 * MIB,
            target_cache=how,  # type: ignore[arg-type]
            source_cache=how,  # type: ignore[arg-type]
        )
        assert bool(synced) == (how != "unsafe")
    assert target.read_bytes() == usual.read_bytes()


def test_a_rate_counts_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(RateLimit, "take", lambda _, count: taken.append(count))
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MIB) + bytes(5 * MIB))
    qcow2crypt.convert(source, tmp_path / "x", source_format="raw", rate_limit=1)
    assert sum(taken) == 3 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache is asked as on Linux")
def test_ranges_are_named_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once on their way to the disk, and once when they should be there; all at the end."""
    named: list[tuple[int, int]] = []
    waited: list[tuple[int, int]] = []
    monkeypatch.setattr(pagecache, "_drop", lambda _, first, size: named.append((first, size)))
    monkeypatch.setattr(pagecache, "write_out", lambda _, first, size: waited.append((first, size)))
    dropper = CacheDropper(0, written=True)
    for number in range(20 * 8):
        dropper.touched(number * MIB, MIB)
    windows = [(number * 8 * MIB, 8 * MIB) for number in range(20)]
    assert [one for one in windows if named.count(one) == 2] == windows[:12]
    assert [one for one in windows if named.count(one) == 1] == windows[12:]
    assert waited == windows[:12]
    dropper.finish()
    assert named[-1] == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache is asked as on Linux")
def test_a_large_target_leaves_the_page_cache_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was spared; of a small one each range begins its way to the disk, and no more."""
    named: list[tuple[int, int]] = []
    begun: list[tuple[int, int]] = []

    def write_out(_: int, first: int, size: int, *, wait: bool = True) -> None:
        assert not wait
        begun.append((first, size))

    monkeypatch.setattr(pagecache, "_drop", lambda _, first, size: named.append((first, size)))
    monkeypatch.setattr(pagecache, "write_out", write_out)
    monkeypatch.setattr(output, "SPARED", 24 * MIB)
    source = tmp_path / "source"
    for size, windows in (
        (20 * MIB, []),
        (40 * MIB, [(0, 24 * MIB), (24 * MIB, 8 * MIB), (32 * MIB, 8 * MIB), (0, 0)]),
    ):
        begun.clear()
        source.write_bytes(os.urandom(size))
        qcow2crypt.convert(source, tmp_path / "target", source_format="raw", threads=1)
        assert named == windows
        assert begun == [(0, 8 * MIB), (8 * MIB, 8 * MIB)]
    named.clear()
    qcow2crypt.convert(source, tmp_path / "target", source_format="raw", target_cache="writeback")
    assert named == []


def cached(path: Path) -> int:
    """How many pages of a file the page cache holds, by mincore(2)."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        count = len(view) // mmap.PAGESIZE
        held = (ctypes.c_ubyte * count)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        wrong = library.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(view)), held)
        if wrong:
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(one & 1 for one in held)


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache is asked as on Linux")
def test_target_and_source_leave_the_page_cache(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(os.urandom(24 * MIB))
        os.fsync(file.fileno())
        if _is_in_memory(tmp_path):
            pytest.skip("the temporary folder is in memory: there is nothing but cache")
    everything = 24 * MIB // mmap.PAGESIZE
    for mode, pages in (("writeback", everything), (None, everything), ("none", 0)):
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            source_cache=mode,  # type: ignore[arg-type]
            target_cache=mode,  # type: ignore[arg-type]
        )
        assert cached(target) == pages
    assert cached(source) < everything


def _is_in_memory(folder: Path) -> bool:
    """Whether a folder lies on tmpfs."""
    best = ("", "")
    with Path("/proc/self/mounts").open() as mounts:
        for line in mounts:
            _, place, kind = line.split()[:3]
            if str(folder.resolve()).startswith(place) and len(place) >= len(best[0]):
                best = (place, kind)
    return best[1] == "tmpfs"
