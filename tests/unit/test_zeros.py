"""Runs of data between runs of zeros."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.units import GuestOffset
from qcow2crypt.zeros import DEFAULT_SPARSE_SIZE, data_runs, has_no_zeros


def piece(pattern: str) -> bytearray:
    """A piece of sectors: a dot is a sector of zeros, anything else is data."""
    return bytearray(b"".join(bytes(512) if c == "." else bytes(511) + b"x" for c in pattern))


def runs(pattern: str, offset: int = 0, sparse_size: int = DEFAULT_SPARSE_SIZE) -> str:
    """The pattern again, with a hash for every sector in a run."""
    kept = ["."] * len(pattern)
    for start, end in data_runs(piece(pattern), GuestOffset(offset), sparse_size):
        assert start % 512 == end % 512 == 0
        kept[start // 512 : end // 512] = ["#"] * ((end - start) // 512)
    return "".join(kept)


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("", ""),
        ("........", "........"),
        ("x", "#"),
        ("........x.......", "........########"),
        (".......x", "########"),
        ("x.......................", "########................"),
        ("x........x", "##########"),  # 8 zero sectors, but no whole unit of them
        ("x...............x", "########........#"),  # one whole unit
        ("xxxxxxxx........xxxxxxxx", "########........########"),
        ("xxxxxxxx........x", "########........#"),
        ("................x", "................#"),
    ],
)
def test_the_default_is_units_of_4_kib(pattern: str, kept: str) -> None:
    assert runs(pattern) == kept


@pytest.mark.parametrize(
    ("sparse_size", "kept"),
    [
        (512, "#..#....#........#"),
        (1024, "####....##......##"),
        (2048, "####....####....##"),
        (8192, "##################"),
    ],
)
def test_other_units(sparse_size: int, kept: str) -> None:
    assert runs("x..x....x........x", sparse_size=sparse_size) == kept


def test_a_run_of_zeros_counts_only_if_it_is_as_long_as_the_sparse_size() -> None:
    """With 1536 bytes the unit is 1024, and one unit of zeros is too short."""
    assert runs("xx..xx", sparse_size=1536) == "######"
    assert runs("xx....xx", sparse_size=1536) == "##....##"


def test_units_are_aligned_on_the_guest_disk() -> None:
    assert runs("....x.......", offset=512 * 4) == "....########"
    assert runs("x...........x", offset=512 * 7) == "#........####"


def test_zero_keeps_all() -> None:
    assert runs("........", sparse_size=0) == "########"
    assert runs("", sparse_size=0) == ""


@given(
    st.text(alphabet=".x", max_size=40),
    st.integers(0, 40),
    st.sampled_from((512, 1024, 1536, 4096, 65536)),
)
def test_runs_hold_all_data_and_leave_out_only_long_zeros(
    pattern: str, first: int, sparse_size: int
) -> None:
    data = piece(pattern)
    found = list(data_runs(data, GuestOffset(first * 512), sparse_size))
    end = 0
    for index, (start, stop) in enumerate(found):
        assert end <= start < stop <= len(data)
        assert not any(data[end:start])
        assert index == 0 or start - end >= sparse_size
        end = stop
    assert not any(data[end:])
    for start, stop in found:
        assert any(data[start:stop])


def test_a_huge_sparse_size_costs_no_memory() -> None:
    data = piece("x.......")
    tracemalloc.start()
    try:
        assert list(data_runs(data, GuestOffset(0), 1 << 40)) == [(0, 4096)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@given(st.lists(st.sampled_from(("zeros", "begins with 0", "data")), max_size=40), st.data())
def test_no_zeros_at_a_glance(kinds: list[str], data: st.DataObject) -> None:
    """Where no sector is zeros, all is worth storing, however it is cut into pieces."""
    sectors = {"zeros": bytes(512), "begins with 0": b"\0" * 511 + b"x", "data": b"x" * 512}
    whole = b"".join(sectors[kind] for kind in kinds)
    assert has_no_zeros(memoryview(whole)) == ("zeros" not in kinds)
    if "zeros" not in kinds and kinds:
        first = data.draw(st.integers(0, len(kinds) - 1))
        last = data.draw(st.integers(first + 1, len(kinds)))
        cut = whole[first * 512 : last * 512]
        for sparse_size in (512, 4096, 10_000):
            assert list(data_runs(cut, GuestOffset(first * 512), sparse_size)) == [(0, len(cut))]


def test_too_many_looks_are_not_worth_it() -> None:
    """A disk whose sectors all begin with 0 is looked at piece by piece."""
    assert not has_no_zeros(memoryview((b"\0" * 511 + b"x") * 1000))
