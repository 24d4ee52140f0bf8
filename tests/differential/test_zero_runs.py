"""``zeros.data_runs`` against qemu-img: which sectors of a raw disk does it store?

Asked of qemu-img through a target with clusters of 512 bytes: its map shows single sectors.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.differential import SECTOR, Case, NewCase, Target, many, opened, padded
from support.differential_content import LAYOUTS, Recipe, content, with_zeros
from support.differential_strategies import recipes

from qcow2crypt.units import GuestOffset
from qcow2crypt.zeros import data_runs

PIECE = 2 << 20
SPARSE_SIZES = [512, 1024, 1536, 2048, 3584, 4096, 4608, 8192, 12288, 20480, 65536, 1 << 20]
SPARSE_SIZES += [PIECE, 3 << 20, 16 << 20]
ENDS = [0, 1, 512, 513, 1024, 2048, 3584, 4095]


def stored_by_us(guest: bytes, sparse_size: int) -> set[int]:
    """The sectors that ``data_runs`` keeps, piece by piece."""
    stored: set[int] = set()
    for start in range(0, len(guest), PIECE):
        piece = bytearray(guest[start : start + PIECE])
        for first, end in data_runs(piece, GuestOffset(start), sparse_size):
            assert first % SECTOR == end % SECTOR == 0
            stored.update(range((start + first) // SECTOR, (start + end) // SECTOR))
    return stored


def stored_by_them(case: Case, guest: bytes, sparse_size: int) -> set[int]:
    """The sectors that qemu-img convert allocates."""
    path = case.folder / "target"
    words = ["-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", "-S", str(sparse_size)]
    case.theirs("convert", *words, case.raw(guest).path, path)
    disk = Target(cluster_size=512).disk(path)
    stored: set[int] = set()
    for entry in json.loads(case.theirs("map", "--output=json", *opened(disk)).stdout):
        if entry["data"]:
            first = entry["start"] // SECTOR
            stored.update(range(first, first + entry["length"] // SECTOR))
    return stored


def check(case: Case, guest: bytes, sparse_size: int) -> None:
    """Hold the two against each other; say the first sector that differs."""
    guest = padded(guest)
    ours, theirs = stored_by_us(guest, sparse_size), stored_by_them(case, guest, sparse_size)
    if ours != theirs:
        sector = min(ours ^ theirs)
        who = "we" if sector in ours else "qemu-img"
        case.fail(f"-S {sparse_size}: only {who} would store guest sector {sector}")


@pytest.mark.slow
@pytest.mark.parametrize("sparse_size", SPARSE_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(new_case: NewCase, layout: str, sparse_size: int) -> None:
    with new_case() as case:
        for end in (0, 700, 2048):
            check(case, content(layout, 300_032 + end, 4096, sparse_size), sparse_size)


@pytest.mark.slow
@pytest.mark.parametrize("sparse_size", SPARSE_SIZES)
@pytest.mark.parametrize("end", ENDS)
def test_the_last_unit(new_case: NewCase, end: int, sparse_size: int) -> None:
    """The disk ends inside a unit: with data, with zeros, and with zeros before the end."""
    with new_case() as case:
        size = 5 * 65536 + end
        for zeros in ([], [(size - end - 1, end + 1)], [(size - 5000, 4500)], [(size - 1, 1)],
                      [(0, size - 100)], [(65536, size)]):  # fmt: skip
            check(case, with_zeros(size, zeros), sparse_size)


@pytest.mark.slow
@pytest.mark.parametrize("sparse_size", SPARSE_SIZES)
def test_around_a_piece(new_case: NewCase, sparse_size: int) -> None:
    """Zeros at the end of a piece of 2 MiB and at the start of the next."""
    with new_case() as case:
        for before, after in [(512, 512), (4096, 0), (0, 4096), (3584, 3584), (6000, 10_000)]:
            zeros = [(PIECE - before, before + after), (100_000, 3000)]
            check(case, with_zeros(PIECE + 50_000, zeros), sparse_size)


@many
@given(
    recipe=recipes(300_000),
    sparse_size=st.one_of(
        st.sampled_from(SPARSE_SIZES), st.integers(1, 400).map(lambda n: n * SECTOR)
    ),
)
def test_random(new_case: NewCase, recipe: Recipe, sparse_size: int) -> None:
    with new_case() as case:
        check(case, recipe.content(), sparse_size)


def test_all_is_stored_without_a_sparse_size(new_case: NewCase) -> None:
    with new_case() as case:
        check(case, with_zeros(70_000, [(0, 60_000)]), 0)
