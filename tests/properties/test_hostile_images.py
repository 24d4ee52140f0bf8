"""Hostile input is ordinary input: real images, changed anywhere, are read or refused.

Whatever the bytes are, only our own errors come out, with field and offset where it is the format
that is broken; nothing hangs, and no small file makes us take much memory.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import tracemalloc
from collections.abc import Callable

import golden
import pytest
from damage.tiny import FIELDS, tiny
from hypothesis import example, given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import ArgumentError, FormatError, Qcow2CryptError, SourceError

MIB = 1 << 20
PEAK = 48 * MIB
EXTENTS_MAX = 3000
PIECE = 64 << 10
READ_AT_EACH_END = MIB

# Small ones, and between them every kind of cluster; the large ones are nearly all zeros.
SEEDS = {
    name: golden.load(name).data for name in golden.NAMES if name[:5] not in ("aes-c", "stand")
}
SEEDS |= {
    name: golden.load(name).data
    for name in (
        "aes-c4k-compressed.qcow2",
        "aes-c4k-v2.qcow2",
        "aes-c512-snapshot.qcow2",
        "aes-c512-zero.qcow2",
        "aes-c512-overlay.qcow2",
        "aes-c64k-v3-extl2.qcow2",
    )
}
SEEDS |= {f"tiny, {1 << bits}": tiny(cluster_bits=bits).data for bits in (9, 12, 16)}

# Numbers that stand at some limit.
_BITS = (0, 1, 8, 9, 12, 16, 21, 22, 31, 32, 55, 56, 61, 62, 63)
EDGES = (
    *(number for bit in _BITS for number in ((1 << bit) - 1, 1 << bit, (1 << bit) + 1)),
    *(2**64 - 1, 2**64 - 512, 2**63 - 512),
)


class Counting(io.BytesIO):
    """A file that counts how often it is read, and stops what never stops."""

    LIMIT = 200_000
    steps = 0

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        self.steps += 1
        assert self.steps < self.LIMIT, "this reads for ever"
        return super().readinto(buffer)


def exercise(data: bytes) -> None:
    """Do with these bytes all that can be done without writing, in bounded pieces."""
    for format_name in (None, "qcow2"):
        guard(lambda name=format_name: describe(data, name))  # type: ignore[misc]
        guard(lambda name=format_name: read(data, name))  # type: ignore[misc]


def describe(data: bytes, format_name: str | None) -> None:
    info = qcow2crypt.info(Counting(data), format=format_name)
    json.dumps(info.as_dict())


def read(data: bytes, format_name: str | None) -> None:
    with qcow2crypt.open(Counting(data), secret="x", format=format_name) as image:
        assert image.size % 512 == 0
        guard(lambda: walk(image))
        ends = (0, max(0, image.size - READ_AT_EACH_END))
        for start in ends:
            for at in range(start, min(start + READ_AT_EACH_END, image.size), PIECE):
                guard(lambda at=at: whole_piece(image, at))  # type: ignore[misc]


def walk(image: qcow2crypt.Image) -> None:
    position = 0
    for extent in itertools.islice(image.extents(), EXTENTS_MAX):
        assert extent.guest_offset == position
        assert extent.length > 0
        position += extent.length
    assert position <= image.size


def whole_piece(image: qcow2crypt.Image, at: int) -> None:
    assert len(image.pread(PIECE, at)) == min(PIECE, image.size - at)


def guard(work: Callable[[], None]) -> None:
    """Run it; the only way to fail is an error of ours that says where."""
    try:
        work()
    except FormatError as error:
        assert error.field
        assert error.offset is None or error.offset >= 0
        assert error.found
        assert error.allowed
        assert str(error).count("\n") == 0
    except ArgumentError:  # no argument of ours is wrong
        raise
    except Qcow2CryptError as error:
        assert not isinstance(error, SourceError), "a file in memory can always be read"


Change = Callable[[bytearray], None]


def set_field(field: str, number: int) -> Change:
    start, length = FIELDS[field]
    return put_at(start, (number % (1 << 8 * length)).to_bytes(length, "big"))


def put_at(at: int, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        data[at : at + len(new)] = new

    return change


def insert_at(at: int, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        data[at:at] = new

    return change


def flip_at(at: int, bit: int) -> Change:
    def change(data: bytearray) -> None:
        if data:
            data[at % len(data)] ^= 1 << bit

    return change


def cut_at(at: int) -> Change:
    def change(data: bytearray) -> None:
        del data[at:]

    return change


def changes(size: int) -> st.SearchStrategy[list[Change]]:
    """A few changes to an image of ``size`` bytes, more of them where header and tables are."""
    places = st.one_of(
        *(st.integers(0, min(size, limit) - 1) for limit in (128, 512, 1 << 13, size))
    )
    numbers = st.sampled_from(EDGES) | st.integers(0, 2**16)
    entries = numbers | st.integers(0, 40).map(lambda n: n << 9)
    new = st.binary(min_size=1, max_size=16)
    return st.lists(
        st.one_of(
            st.builds(set_field, st.sampled_from(sorted(FIELDS)), numbers),
            st.builds(set_field, st.sampled_from(sorted(FIELDS)), numbers),
            st.builds(
                lambda at, number: put_at(at - at % 8, number.to_bytes(8, "big")), places, entries
            ),
            st.builds(flip_at, places, st.integers(0, 7)),
            st.builds(put_at, places, new),
            st.builds(insert_at, places, new),
            st.builds(cut_at, places),
        ),
        min_size=1,
        max_size=6,
    )


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
def test_changed_images(name: str, data: st.DataObject) -> None:
    changed = bytearray(SEEDS[name])
    for change in data.draw(changes(len(changed))):
        change(changed)
    exercise(bytes(changed))


@given(st.sampled_from((2, 3)), st.binary(max_size=2000))
@example(version=3, noise=b"\xff" * 2000)
@example(version=2, noise=b"\xff" * 2000)
@example(version=3, noise=bytes(2000))
def test_garbage_behind_the_magic(version: int, noise: bytes) -> None:
    exercise(b"QFI\xfb" + version.to_bytes(4, "big") + noise)


@given(st.data())
def test_garbage_behind_a_header_that_is_right(data: st.DataObject) -> None:
    """Tables of nonsense."""
    body = tiny(cluster_bits=data.draw(st.sampled_from((9, 12, 16))))
    noise = random.Random(data.draw(st.integers(0, 2**32))).randbytes(4 * body.cluster_size)
    exercise(body.data[: body.l1] + noise)


@pytest.mark.parametrize(
    "start", [b"QFI\xfb\0\0\0\x01", b"LUKS\xba\xbe\0\x01", b"QED\0", b"vhdxfile"]
)
@given(noise=st.binary(max_size=700))
def test_garbage_behind_other_magics(start: bytes, noise: bytes) -> None:
    guard(lambda: describe(start + noise, None))
    guard(lambda: read(start + noise, None))


@pytest.mark.parametrize("name", SEEDS)
def test_cut_images(name: str) -> None:
    """At every length up to the end of the header, then at some."""
    data = SEEDS[name]
    steps = {*range(130), *range(130, min(len(data), 40_000), 509), len(data) - 1}
    for length in sorted(steps):
        exercise(data[:length])


HUGE = {
    "l1_size": {"l1_size": 2**22, "size": 2**61, "cluster_bits": 21},
    "size": {"l1_size": 2**22, "size": 2**37},
    "nb_snapshots": {"nb_snapshots": 65536},
    "refcount table": {"refcount_table_clusters": 2**14},
    "cluster size": {"cluster_bits": 21, "l1_table_offset": 0, "refcount_table_offset": 0},
}


@pytest.mark.parametrize("name", HUGE)
def test_a_small_file_that_claims_much_costs_little_memory(name: str) -> None:
    data = bytearray(tiny().data)
    for field, number in HUGE[name].items():
        start, length = FIELDS[field]
        data[start : start + length] = number.to_bytes(length, "big")
    assert peak_of(bytes(data)) < PEAK


@pytest.mark.parametrize("name", SEEDS)
def test_memory_is_bounded(name: str) -> None:
    """For some changed images each: the most memory that reading them takes."""
    choose = random.Random(name)
    for _ in range(4):
        data = bytearray(SEEDS[name])
        for _ in range(choose.randint(1, 5)):
            at = choose.randrange(min(len(data) - 8, 8192)) & ~7
            data[at : at + 8] = choose.choice(EDGES).to_bytes(8, "big")
        data[:8] = SEEDS[name][:8]
        assert peak_of(bytes(data)) < PEAK


def peak_of(data: bytes) -> int:
    tracemalloc.start()
    try:
        exercise(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
