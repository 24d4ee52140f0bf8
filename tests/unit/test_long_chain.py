"""Chains of a thousand layers: nothing that goes down a chain may need a stack or the square."""

from __future__ import annotations

import gc
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.chains import CLUSTER, SIZE, fill, open_descriptors, overlay, raw

import qcow2crypt
from qcow2crypt.errors import BackingChainError, MappingError, SourceError
from qcow2crypt.image.base import Image

resource = pytest.importorskip("resource", reason="limits of open files are set on POSIX only")

LAYERS = 1000
BASE = bytes(range(256)) * (SIZE // 256)
FILLED = {0: b"top", 1: b"second", 499: b"middle", LAYERS - 1: b"lowest overlay"}
"""What the layers at these depths hold at the start of the cluster of that number, from 1 on."""


@contextmanager
def files_allowed(count: int) -> Iterator[None]:
    """Let this process have ``count`` files open beside the present ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(int(one.name) for one in Path("/proc/self/fd").iterdir()) + 1 + count
    if hard not in (resource.RLIM_INFINITY, -1) and wanted > hard:
        pytest.skip(f"this system allows a process {hard} open files, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def name_of(depth: int) -> str:
    return f"{depth:04}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``0000`` is the image, ``0001`` its backing file, and so on; the last one is raw."""
    folder = tmp_path_factory.mktemp("long")
    raw(folder / name_of(LAYERS), BASE)
    overlay(folder / name_of(LAYERS - 1), name_of(LAYERS), backing_format="raw")
    # To make each of them would take ten seconds: they differ in four bytes.
    made = overlay(folder / "made", "next").read_bytes()
    for depth in range(LAYERS - 1):
        (folder / name_of(depth)).write_bytes(made.replace(b"next", name_of(depth + 1).encode()))
    with files_allowed(LAYERS + 200):
        for number, (depth, data) in enumerate(FILLED.items(), 1):
            fill(folder / name_of(depth), number * CLUSTER, data)
    return folder


@pytest.fixture(autouse=True)
def plenty() -> Iterator[None]:
    with files_allowed(LAYERS + 200):
        yield


def expected() -> bytes:
    disk = bytearray(BASE)
    for number, data in enumerate(FILLED.values(), 1):
        disk[number * CLUSTER : number * CLUSTER + len(data)] = data
    return bytes(disk)


def test_read_and_close(folder: Path) -> None:
    before = open_descriptors()
    with qcow2crypt.open(folder / name_of(0)) as image:
        assert image.readall() == expected()
        assert image.pread(3, CLUSTER + 1) == b"op" + BASE[CLUSTER + 3 : CLUSTER + 4]
        assert open_descriptors() == before + LAYERS + 1
    assert open_descriptors() == before


def test_extents(folder: Path) -> None:
    with qcow2crypt.open(folder / name_of(0)) as image:
        found = [(one.depth, one.guest_offset, one.length) for one in image.extents()]
    clusters = [(LAYERS, 0, CLUSTER)]
    clusters += [(depth, at * CLUSTER, CLUSTER) for at, depth in enumerate(FILLED, 1)]
    rest = (len(FILLED) + 1) * CLUSTER
    assert found == [*clusters, (LAYERS, rest, SIZE - rest)]


def test_write(folder: Path, tmp_path: Path) -> None:
    """Copy on write takes the rest of a cluster from the lowest layer."""
    path = overlay(tmp_path / "over", str(folder / name_of(0)))
    with qcow2crypt.open(path, mode="r+", external="any") as image:
        image.pwrite(b"new", 9 * CLUSTER + 1)
        image.flush()
        assert image.pread(CLUSTER, 9 * CLUSTER) == b"\0new" + BASE[4:CLUSTER]
    disk = bytearray(expected())
    disk[9 * CLUSTER + 1 : 9 * CLUSTER + 4] = b"new"
    with qcow2crypt.open(path, external="any") as image:
        assert image.readall() == disk


def test_whole_images(folder: Path, tmp_path: Path) -> None:
    assert len(qcow2crypt.info_chain(folder / name_of(0))) == LAYERS + 1
    flat = tmp_path / "flat"
    qcow2crypt.convert(folder / name_of(0), flat, source_format="qcow2")
    assert flat.read_bytes() == expected()
    with qcow2crypt.open(folder / name_of(0)) as image, qcow2crypt.open(flat) as other:
        assert qcow2crypt.compare(image, other).identical


def test_an_image_that_nobody_closes(folder: Path) -> None:
    """Python lets go of it link by link: that is another stack that could be too small."""
    before = open_descriptors()
    image: Image | None = qcow2crypt.open(folder / name_of(0))
    assert image is not None
    image = None
    gc.collect()
    assert open_descriptors() == before


def test_the_stack_does_not_grow(folder: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        with qcow2crypt.open(folder / name_of(0)) as image:
            assert image.pread(len(BASE), 0) == expected()
            assert sum(one.length for one in image.extents()) == SIZE
    finally:
        sys.setrecursionlimit(limit)


def test_a_loop(folder: Path, tmp_path: Path) -> None:
    """The last of a thousand names one of the first."""
    for number in range(LAYERS):
        shutil.copy(folder / name_of(number), tmp_path)
    (tmp_path / name_of(LAYERS)).symlink_to(name_of(7))
    (tmp_path / name_of(LAYERS - 1)).unlink()
    overlay(tmp_path / name_of(LAYERS - 1), name_of(LAYERS))
    message = rf"depth {LAYERS} is the same file as '.*{name_of(7)}' at depth 7$"
    for call in (qcow2crypt.open, qcow2crypt.info_chain):
        with pytest.raises(BackingChainError, match=message):
            call(tmp_path / name_of(0))


def test_damage_far_down_names_its_file(folder: Path, tmp_path: Path) -> None:
    for number in range(LAYERS + 1):
        shutil.copy(folder / name_of(number), tmp_path)
    broken = tmp_path / name_of(500)
    data = bytearray(broken.read_bytes())
    l1_table = int.from_bytes(data[40:48], "big")
    data[l1_table : l1_table + 8] = ((1 << 63) + 512).to_bytes(8, "big")
    broken.write_bytes(data)
    with qcow2crypt.open(tmp_path / name_of(0)) as image:
        assert image.pread(3, CLUSTER) == b"top"
        for call in (image.readall, lambda: list(image.extents())):
            with pytest.raises(MappingError) as caught:
                call()
            assert str(caught.value).endswith(f"(in backing file '{broken}')")


@pytest.mark.parametrize("call", [qcow2crypt.open, qcow2crypt.info_chain])
def test_too_many_open_files(call: Callable[[Path], object], folder: Path) -> None:
    before = open_descriptors()
    with files_allowed(100), pytest.raises(SourceError) as caught:
        call(folder / name_of(0))
    assert "Too many open files" in str(caught.value)
    assert "ulimit -n" in str(caught.value)
    assert "backing file '" in str(caught.value)
    assert open_descriptors() == before
