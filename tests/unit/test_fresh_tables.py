"""Whole L2 tables and refcount blocks of a new file in bulk: as one by one, byte for byte."""

from __future__ import annotations

import copy
import random
from array import array
from typing import Literal
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory import Memory
from support.refcounts import problems

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.image.placed import Placed
from qcow2crypt.image.qcow2.entries import FLAG_COPIED
from qcow2crypt.image.qcow2.fresh.allocator import Allocator
from qcow2crypt.image.qcow2.fresh.l2 import big_endian, growing
from qcow2crypt.image.qcow2.fresh.places import Places
from qcow2crypt.image.qcow2.fresh.refcounts import RefcountBlocks
from qcow2crypt.image.qcow2.fresh.writer import Qcow2Writer
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.units import GuestOffset


@st.composite
def allocators(draw: st.DrawFn) -> Allocator:
    """One that has been used for a while."""
    allocator = Allocator(512, draw(st.sampled_from((4, 4, 0, 6))))
    for _ in range(draw(st.integers(0, 6))):
        count = draw(st.sampled_from((1, 32, 64, 250, 5000)))
        first = allocator.allocate(count)
        if draw(st.integers(0, 3)) == 0:
            allocator.free(first, draw(st.integers(1, count)))
        if draw(st.integers(0, 5)) == 0:
            allocator.restart()
    return allocator


def state(allocator: Allocator) -> tuple[object, ...]:
    return (allocator.frontier, allocator.holes, allocator.blocks, allocator.table)


@given(allocators(), st.lists(st.sampled_from((1, 32, 64, 255, 300)), max_size=200), st.data())
def test_straight_is_what_allocate_gives(
    allocator: Allocator, counts: list[int], data: st.DataObject
) -> None:
    before = copy.deepcopy(state(allocator))
    found = allocator.straight(counts)
    assert state(allocator) == before, "nothing is taken yet"
    taken = data.draw(st.integers(0, len(found)))
    slow = copy.deepcopy(allocator)
    assert [slow.allocate(count) for count in counts[:taken]] == [
        first for first, _ in found[:taken]
    ]
    if taken:
        allocator.take_straight(counts[:taken], found)
    assert state(allocator) == state(slow)
    more = [1, 32, 2, 700, 1]
    assert [allocator.allocate(count) for count in more] == [slow.allocate(n) for n in more]


def test_straight_gets_far() -> None:
    """In a new file all goes straight on, until the refcount table is full."""
    allocator = Allocator(512)
    counts = (1, 32, 32) * 1000
    assert sum(counts[: len(allocator.straight(counts))]) > 200 * 65


@given(st.integers(0, 1 << 40), st.integers(0, 2000), st.sampled_from((512, 65536)))
def test_growing_entries(first: int, count: int, size: int) -> None:
    entries = array("Q", (FLAG_COPIED | (first + n) * size for n in range(count)))
    assert growing(first * size, count, size) == big_endian(entries)


@st.composite
def writes(draw: st.DrawFn) -> tuple[int, Qcow2Options, list[list[tuple[int, int]]]]:
    """A size, options, and ascending writes in batches: they begin and end anywhere."""
    cluster_size = draw(st.sampled_from((512, 512, 1024)))
    sectors, position = draw(st.integers(1, 12_000)), 0
    batches: list[list[tuple[int, int]]] = [[]]
    while position < sectors:
        step = draw(st.sampled_from((1, 3, 64, 128, 1024, 4000)))
        end = min(sectors, position + step)
        if draw(st.integers(0, 4)):
            batches[-1].append((position * 512, (end - position) * 512))
        if draw(st.booleans()):
            batches.append([])
        position = end
    options = Qcow2Options(
        cluster_size=cluster_size,
        encryption=draw(st.sampled_from((None, "aes"))),
        refcount_bits=draw(st.sampled_from((16, 16, 1, 64))),
    )
    return sectors * 512, options, batches


def written(
    size: int, options: Qcow2Options, batches: list[list[tuple[int, int]]], noise: random.Random
) -> bytes:
    target = Memory()
    cipher = SectorCipher.from_passphrase("key") if options.encryption else None
    writer = Qcow2Writer(target, size, options, cipher)
    for batch in batches:
        runs, at = [], 0
        for offset, length in batch:
            runs.append((GuestOffset(offset), at, length))
            at += length
        buffer = bytearray(noise.randbytes(at))
        with memoryview(buffer) as view:
            writer.put(writer.place(runs), view)
    writer.finish()
    return bytes(target.data)


@given(writes(), st.integers(0, 99))
def test_in_bulk_and_one_after_the_other(
    disk: tuple[int, Qcow2Options, list[list[tuple[int, int]]]], seed: int
) -> None:
    """The slow twin takes no table whole and writes all refcount blocks at the end."""
    fast = written(*disk, random.Random(seed))
    with (
        mock.patch.object(Places, "locate_tables", return_value=[]),
        mock.patch.object(RefcountBlocks, "take_full", return_value=[]),
    ):
        slow = written(*disk, random.Random(seed))
    assert fast == slow
    if disk[1].refcount_bits == 16:
        assert problems(fast) == []


@pytest.mark.parametrize("encryption", [None, "aes"])
def test_many_tables_are_placed_in_one_step(encryption: Literal["aes"] | None) -> None:
    """2 MiB in clusters of 512 bytes: no table is filled entry by entry, and one write has all."""
    cipher = SectorCipher.from_passphrase("key") if encryption else None
    target = Memory()
    options = Qcow2Options(cluster_size=512, encryption=encryption)
    writer = Qcow2Writer(target, 2 << 20, options, cipher)
    with mock.patch.object(Places, "locate", side_effect=AssertionError("a step for each run")):
        placed = writer.place([(GuestOffset(0), 0, 2 << 20)])
    assert isinstance(placed, Placed)
    assert len(placed.tables) >= 64
    target.order.clear()
    with memoryview(bytearray(2 << 20)) as view:
        writer.put(placed, view)
    assert len(target.order) < 4
