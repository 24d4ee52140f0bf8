"""Refcount blocks of every width: bytes to counts and back."""

from __future__ import annotations

import random

import pytest

from qcow2crypt.image.qcow2.refcountblock import (
    pack_refcounts,
    refcount_max,
    refcounts_per_block,
    small_refcounts,
    unpack_refcounts,
)


def test_the_largest_count_of_each_width() -> None:
    assert [refcount_max(order) for order in range(7)] == [
        *(1, 3, 15, 255, 65535, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
    ]


@pytest.mark.parametrize("order", range(7))
def test_blocks_of_every_width(order: int) -> None:
    draw = random.Random(order)
    counts = [draw.randint(0, refcount_max(order)) for _ in range(refcounts_per_block(512, order))]
    packed = pack_refcounts(counts, order)
    assert len(packed) == 512
    assert list(unpack_refcounts(packed, order)) == counts


@pytest.mark.parametrize("order", range(7))
def test_a_block_of_zeros_counts_nothing(order: int) -> None:
    counts = unpack_refcounts(bytes(512), order)
    assert list(counts) == [0] * refcounts_per_block(512, order)
    assert pack_refcounts(counts, order) == bytes(512)


@pytest.mark.parametrize(
    ("order", "packed"), [(0, "3f"), (1, "5505"), (2, "111111"), (4, "000100010001000100010001")]
)
def test_six_used_clusters_as_qemu_writes_them(order: int, packed: str) -> None:
    data = bytes.fromhex(packed)
    counts = list(unpack_refcounts(data, order))
    assert counts[:6] == [1] * 6
    assert not any(counts[6:])
    assert pack_refcounts(counts, order) == data


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("large", [False, True])
def test_small_counts_are_bytes(order: int, large: bool) -> None:
    draw = random.Random(order)
    most = min(255, refcount_max(order))
    counts = [draw.randint(0, most) for _ in range(refcounts_per_block(512, order))]
    if large:
        counts[7] = refcount_max(order)
    packed = pack_refcounts(counts, order)
    found = small_refcounts(packed, order)
    assert list(found) == counts
    assert isinstance(found, bytes) == (max(counts) < 256)
    assert pack_refcounts(found, order) == packed
