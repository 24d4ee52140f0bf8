"""Two guest disks: the first byte that differs, in bounded memory, without reading what is zero."""

from __future__ import annotations

import io
import itertools
import pickle
import tracemalloc
from pathlib import Path

import pytest
from support.kinds import DISK, KINDS, MIB, NEW, OLD, make, secret_of

import qcow2crypt
from qcow2crypt.errors import ArgumentError, ComparisonError
from qcow2crypt.tasks.comparison import Comparison
from qcow2crypt.testing.damage.tiny import entry, put, tiny

TIB = 1 << 40


def raw(data: bytes) -> qcow2crypt.Image:
    return qcow2crypt.open(io.BytesIO(data), format="raw")


def compared(first: bytes, second: bytes, *, strict: bool = False) -> Comparison:
    with raw(first) as one, raw(second) as other:
        return qcow2crypt.compare(one, other, strict=strict)


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_kinds_of_images(first: str, second: str, tmp_path: Path) -> None:
    paths = [make(tmp_path / name, name, DISK) for name in {first, second}]
    assert len(paths) == len({first, second})
    with (
        qcow2crypt.open(tmp_path / first, secret_of(first, OLD), format=KINDS[first][0]) as one,
        qcow2crypt.open(
            tmp_path / second, secret_of(second, OLD), format=KINDS[second][0]
        ) as other,
    ):
        found = qcow2crypt.compare(one, other)
        assert found == Comparison((len(DISK), len(DISK)))
        assert found.identical
        assert not one.closed


def test_a_wrong_passphrase_is_a_difference(tmp_path: Path) -> None:
    path = make(tmp_path / "image", "aes", DISK)
    with qcow2crypt.open(path, NEW) as wrong, raw(DISK) as right:
        assert qcow2crypt.compare(wrong, right).first_difference is not None


@pytest.mark.parametrize("at", [0, 1, 511, 512, 70_000, 2 * MIB - 1, 2 * MIB, 5 * MIB - 1])
def test_the_first_byte_that_differs(at: int) -> None:
    first = bytes(range(256)) * (5 * MIB // 256)
    second = bytearray(first)
    second[at] ^= 0x80
    second[-1] ^= 1
    found = compared(first, bytes(second))
    assert (found.first_difference, found.identical) == (at, False)


@pytest.mark.parametrize("swap", [False, True])
def test_sizes(swap: bool) -> None:
    def both(first: bytes, second: bytes, *, strict: bool = False) -> Comparison:
        pair = (second, first) if swap else (first, second)
        return compared(*pair, strict=strict)

    data = b"x" * 1024
    longer = both(data, data + bytes(4096))
    assert (longer.identical, longer.same_size) == (True, False)
    assert not both(data, data + bytes(4096), strict=True).identical
    assert both(data, data + bytes(4095) + b"y").first_difference == 1024 + 4095
    assert both(data, b"y" + data + bytes(511)).first_difference == 0
    assert both(b"", b"").identical
    assert both(b"", bytes(512)).identical


def test_strict_sees_how_it_is_stored(tmp_path: Path) -> None:
    qcow2crypt.create(tmp_path / "empty", MIB)
    with qcow2crypt.open(tmp_path / "empty") as empty, raw(bytes(MIB)) as written:
        assert qcow2crypt.compare(empty, written).identical
        found = qcow2crypt.compare(empty, written, strict=True)
        assert (found.identical, found.allocation_difference) == (False, 0)
        assert qcow2crypt.compare(empty, empty, strict=True).identical


def test_two_huge_empty_disks_take_no_time_and_no_memory(tmp_path: Path) -> None:
    for name, size in (("a", 10 * TIB), ("b", 11 * TIB)):
        qcow2crypt.create(tmp_path / name, size)
    with qcow2crypt.open(tmp_path / "a") as one, qcow2crypt.open(tmp_path / "b") as other:
        tracemalloc.start()
        try:
            assert qcow2crypt.compare(one, other).identical
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * MIB


def test_large_disks_are_read_in_pieces() -> None:
    data = bytes(range(256)) * (32 * MIB // 256)
    with raw(data) as one, raw(data) as other:
        tracemalloc.start()
        try:
            assert qcow2crypt.compare(one, other).identical
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * MIB


def test_progress() -> None:
    told: list[tuple[int, int]] = []
    with raw(b"x" * 5 * MIB) as one, raw(b"x" * 5 * MIB + bytes(MIB)) as other:
        qcow2crypt.compare(
            one, other, progress=lambda done, total: told.append((done, total)), threads=1
        )
    assert told[0] == (0, 6 * MIB)
    assert told[-1] == (6 * MIB, 6 * MIB)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert max(b - a for (a, _), (b, _) in itertools.pairwise(told)) <= 2 * MIB


WHOLE = tiny(cluster_bits=12)
BAD_TABLE = put(WHOLE.data, WHOLE.l2 + 8, entry(1 << 63 | 0x5200))


@pytest.mark.parametrize("swap", [False, True])
def test_damage_is_told_with_name_and_place(swap: bool) -> None:
    with qcow2crypt.open(io.BytesIO(BAD_TABLE)) as bad, raw(WHOLE.content) as good:
        with pytest.raises(ComparisonError) as caught:
            qcow2crypt.compare(*((good, bad) if swap else (bad, good)))
        error = caught.value
        assert (error.image, error.guest_offset, error.in_tables) == ("<BytesIO>", 4096, True)
        assert "L2 entry" in str(error)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (str(copy), copy.guest_offset) == (str(error), error.guest_offset)


def test_a_difference_before_the_damage_is_found() -> None:
    with qcow2crypt.open(io.BytesIO(BAD_TABLE)) as bad, raw(bytes(4 * 4096)) as zeros:
        assert qcow2crypt.compare(bad, zeros).first_difference is not None


def test_a_closed_image() -> None:
    one = raw(bytes(512))
    one.close()
    with raw(bytes(512)) as other, pytest.raises(ArgumentError, match="closed"):
        qcow2crypt.compare(one, other)
