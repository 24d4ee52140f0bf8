"""``check`` finds the same with any number of threads, over sound and over damaged images."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import golden
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError, Qcow2CryptError
from qcow2crypt.image.qcow2.check.rebuild import RepairKind
from qcow2crypt.tasks import pipeline, readahead
from qcow2crypt.tasks.checking import check
from qcow2crypt.testing.damage import hostile, rows

DAMAGED = [row.data for row in rows() if row.format == "qcow2"]
HOSTILE = [*(hostile.CROSSED | hostile.CLAIMS).values()]


class Bad(io.BytesIO):
    """A file with a sector that cannot be read."""

    bad = -1

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.tell() <= self.bad < self.tell() + len(buffer):
            raise OSError(5, "bad sector")
        return super().readinto(buffer)


def seen(data: bytes, threads: int, *, repair: bool = False, bad: int = -1) -> list[object]:
    """All that a check tells, and what a repair leaves."""
    told: list[object] = []
    file = Bad(data)
    file.bad = bad
    kind: RepairKind | None = "all" if repair else None
    try:
        result = check(file, repair=kind, format="qcow2", report=told.append, threads=threads)
    except Qcow2CryptError as error:
        return [*told, type(error), str(error)]
    return [*told, result, file.getvalue()]


@pytest.fixture(autouse=True)
def _always_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "_WAITING", -1)
    monkeypatch.setattr(readahead, "_WAITING_BYTE", 0)
    monkeypatch.setattr(readahead, "_BATCH_BYTES", 1024)


@pytest.mark.parametrize(
    ("images", "repair"),
    [(DAMAGED, False), (DAMAGED, True), (HOSTILE, False)],
    ids=["damaged", "damaged, repaired", "hostile"],
)
def test_damaged_images(images: list[bytes], repair: bool) -> None:
    found = [seen(data, 1, repair=repair) for data in images]
    assert len({str(one) for one in found}) > 20
    for data, wanted in zip(images, found, strict=True):
        assert seen(data, 4, repair=repair) == wanted


@pytest.fixture(scope="module")
def many_tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Sound: 48 L2 tables, and a snapshot that shares some of them."""
    rng = random.Random(5)
    path = tmp_path_factory.mktemp("tables") / "image"
    options = Qcow2Options(cluster_size=512)
    qcow2crypt.create(path, 48 * 32768, format="qcow2", options=options)
    with qcow2crypt.open(path, mode="r+") as image:
        for number in range(200):
            image.pwrite(rng.randbytes(512), rng.randrange(48 * 64) * 512)
            if number == 180:
                image.create_snapshot("one")
    return path.read_bytes()


Damage = tuple[int, bytes]


@settings(max_examples=25)
@given(
    places=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=9)), max_size=40),
    repair=st.booleans(),
)
def test_random_damage(places: list[Damage], repair: bool, many_tables: bytes) -> None:
    data = bytearray(many_tables)
    for at, new in places:
        data[(at := at % (len(data) - 16)) : at + len(new)] = new
    assert seen(bytes(data), 4, repair=repair) == seen(bytes(data), 1, repair=repair)


def test_a_sector_that_cannot_be_read(many_tables: bytes) -> None:
    told = set()
    for bad in range(0, len(many_tables), 2048):
        wanted = seen(many_tables, 1, bad=bad)
        assert seen(many_tables, 4, bad=bad) == wanted
        told.add(len(wanted))
    assert told


@pytest.mark.parametrize("name", golden.ALONE)
def test_golden_images(name: str) -> None:
    data = golden.load(name).data
    assert seen(data, 4) == seen(data, 1)


def test_threads_start_where_a_read_waits(
    many_tables: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    usual: Callable[..., None] = pipeline.in_turn

    def in_turn(*parts: object) -> None:
        started.append(1)
        usual(*parts)

    monkeypatch.setattr(readahead, "in_turn", in_turn)
    monkeypatch.setattr(readahead, "_WAITING", 1000)
    fast = seen(many_tables, 4)
    assert not started
    monkeypatch.setattr(readahead, "_WAITING", -1)
    assert seen(many_tables, 4) == fast
    assert started


@pytest.mark.parametrize("threads", [0, 17])
def test_numbers_of_threads(threads: int) -> None:
    with pytest.raises(ArgumentError):
        check(io.BytesIO(), threads=threads)
