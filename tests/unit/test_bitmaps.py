"""Bitmaps: their bits in parts of any size, held against one string of bytes; damage; adding."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dirty_bits import bitmaps_in

import qcow2crypt
from qcow2crypt.errors import ArgumentError, FormatError, HeaderError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bitmapentries import BitmapEntry, payload_length
from qcow2crypt.image.qcow2.bitmaps import (
    StoredBitmap,
    any_bit,
    bitmap_entries,
    readable_bitmap,
    store_bitmaps,
)
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.fresh.writer import Qcow2Writer
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.units import ReadBuffer

CLUSTER = 512
TABLE_AT = 1 << 20
BITS_AT = 2 << 20


class Memory(io.BytesIO):
    """A file in memory, with the calls of a target."""

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        self.seek(offset)
        self.write(data)

    def pwritev(self, parts: Sequence[ReadBuffer], offset: int) -> None:
        self.pwrite(b"".join(parts), offset)

    def truncate(self, size: int) -> None:  # type: ignore[override]
        super().truncate(size)

    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        raise NotImplementedError


def image(size: int, **bitmaps: tuple[int, bytes]) -> bytes:
    """A new image; each bitmap has a granularity in bits, and its bits."""
    sources = [_from_bits(size, name, *given) for name, given in bitmaps.items()]
    memory = Memory()
    Qcow2Writer(memory, size, Qcow2Options(cluster_size=CLUSTER), bitmaps=sources).finish()
    return memory.getvalue()


def _from_bits(size: int, name: str, granularity_bits: int, bits: bytes) -> StoredBitmap:
    """A bitmap whose table has an entry for every cluster."""
    memory = Memory()
    Qcow2Writer(memory, size, Qcow2Options(cluster_size=CLUSTER)).finish()
    count = -(-payload_length(size, granularity_bits) // CLUSTER)
    table = [BITS_AT + CLUSTER * index for index in range(count)]
    memory.pwrite(struct.pack(f">{count}Q", *table), TABLE_AT)
    memory.pwrite(bits.ljust(count * CLUSTER, b"\0"), BITS_AT)
    file = HostFile(memory)
    entry = BitmapEntry(TABLE_AT, count, 2, 1, granularity_bits, name.encode())
    return readable_bitmap(file, read_structure(file), entry)


def stored(data: bytes) -> list[StoredBitmap]:
    file = HostFile(io.BytesIO(data))
    structure = read_structure(file)
    entries = bitmap_entries(file, structure)
    return [readable_bitmap(file, structure, entry) for entry in entries]


@given(st.binary(max_size=3000), st.integers(0, 8), st.integers(1, 24000))
def test_parts_of_any_size_are_the_bits(bits: bytes, shift: int, count: int) -> None:
    bitmap = _from_bits(count * 512, "one", 9, bits)
    length = payload_length(count * 512, 9)
    wanted = bits[:length].ljust(length, b"\0")
    size = 64 << shift
    found = bytearray(-(-length // size) * size)
    numbers = []
    for number, part in bitmap.parts(size):
        assert len(part) == size
        found[number * size : (number + 1) * size] = part
        numbers.append(number)
    assert numbers == sorted(set(numbers))
    real = count // 8
    last = wanted[real : real + 1]
    mask = (1 << count % 8) - 1
    for number in range(len(found) // size):
        one = wanted[number * size : (number + 1) * size]
        own = wanted[number * size : min(real, (number + 1) * size)]
        edge = number * size <= real < (number + 1) * size and bool(last) and last[0] & mask
        assert (number in numbers) == bool(any(own) or edge)
        if number in numbers:
            assert found[number * size : (number + 1) * size] == one.ljust(size, b"\0")


@given(st.binary(max_size=40), st.integers(-9, 400))
def test_any_bit_is_what_counting_says(part: bytes, bits: int) -> None:
    number = int.from_bytes(part, "little")
    wanted = any(number >> place & 1 for place in range(max(0, bits)))
    assert any_bit(part, max(0, bits)) == wanted


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.tuples(st.integers(9, 14), st.binary(max_size=700))
    )
)
def test_what_is_written_is_read_by_another_reader(
    bitmaps: dict[str, tuple[int, bytes]],
) -> None:
    size = 1 << 20
    data = image(size, **bitmaps)
    found = bitmaps_in(data)
    assert [one.name.decode() for one in found] == list(bitmaps)
    for one, (shift, bits) in zip(found, bitmaps.values(), strict=True):
        length = (size >> shift) // 8
        assert (one.granularity_bits, one.flags) == (shift, 2)
        assert one.bits == bits[:length].ljust(length, b"\0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"table_entries": 3}, "its table has 3 entries, the disk needs 4"),
        ({"granularity_bits": 8}, "its granularity is not 512 to 2 GiB"),
        ({"granularity_bits": 32}, "its granularity is not 512 to 2 GiB"),
        ({"flags": 8}, "it has unknown flags"),
        ({"extra": b"x"}, "it has extra data"),
        ({"name": b""}, "it has no name"),
        ({"name": b"n" * 1024}, "its name is too long"),
        ({"table_offset": 513}, "its table is not cluster aligned"),
        ({"table_offset": 0}, "its table is not cluster aligned"),
        ({"table_offset": 1 << 63}, "its table is outside any file"),
        ({"table_entries": 1 << 25, "flags": 1}, "its table is too large"),
        ({"table_entries": 1 << 23, "flags": 1}, "it is too large"),
        ({"kind": 2}, "its type is not 1"),
        ({}, ""),
        ({"table_entries": 3, "flags": 1}, ""),
    ],
)
def test_faults(change: dict[str, int | bytes], says: str) -> None:
    given_fields = {
        "table_offset": 512,
        "table_entries": 4,
        "flags": 0,
        "kind": 1,
        "granularity_bits": 9,
        "name": b"name",
        "extra": b"",
    } | change
    entry = BitmapEntry(**given_fields)  # type: ignore[arg-type]
    assert entry.fault(512 * 8 * 512 * 4, 512) == says


def test_an_entry_with_a_fault_is_an_error() -> None:
    data = bytearray(image(1 << 20, one=(9, b"\1")))
    (seen,) = bitmaps_in(bytes(data))
    struct.pack_into(">I", data, seen.at + 8, 7)
    with pytest.raises(HeaderError, match="bitmap 'one' cannot be used: its table has 7 entries"):
        stored(bytes(data))


@pytest.mark.parametrize("entry", [2, 1 << 56, 513, 512 + 256, 1 << 63])
def test_a_bad_table_entry_is_an_error(entry: int) -> None:
    data = bytearray(image(1 << 20, one=(9, b"\1")))
    (seen,) = bitmaps_in(bytes(data))
    struct.pack_into(">Q", data, seen.table, entry)
    with pytest.raises(FormatError, match="a table entry of bitmap 'one' is not valid"):
        stored(bytes(data))


def test_version_2_has_no_bitmaps() -> None:
    (bitmap,) = stored(image(1 << 20, one=(9, b"\1")))
    with pytest.raises(ArgumentError, match="version 2 cannot have bitmaps"):
        Qcow2Writer(Memory(), 1 << 20, Qcow2Options(version=2), bitmaps=[bitmap])
    with pytest.raises(ArgumentError, match="version 2 cannot have bitmaps"):
        _editor(_empty(Qcow2Options(version=2))).add_bitmaps([bitmap])


def _empty(options: Qcow2Options) -> Memory:
    memory = Memory()
    Qcow2Writer(memory, 1 << 20, options).finish()
    return memory


def _editor(memory: Memory) -> Qcow2Editor:
    return Qcow2Editor(HostFile(memory, writable=True))


def test_bitmaps_are_added_and_recorded_into() -> None:
    """What is added is enabled where it was: it records the next write."""
    bitmaps = stored(image(1 << 20, one=(9, b"\1"), two=(12, b"\xff")))
    memory = _empty(Qcow2Options(cluster_size=CLUSTER))
    editor = _editor(memory)
    editor.pwrite(b"x" * 512, 0)
    editor.add_bitmaps(bitmaps[:1])
    editor.add_bitmaps(bitmaps[1:])
    editor.add_bitmaps([])
    editor.flush()
    assert [(one.name, one.flags) for one in bitmaps_in(memory.getvalue())] == [
        (b"one", 2),
        (b"two", 2),
    ]
    with pytest.raises(ArgumentError, match="has a bitmap 'two' already"):
        editor.add_bitmaps(bitmaps[1:])
    editor.pwrite(b"y" * 512, 512)
    assert [one.flags for one in bitmaps_in(memory.getvalue())] == [3, 3]
    editor.close()
    found = bitmaps_in(memory.getvalue())
    assert [(one.name, one.flags, one.bits[:1]) for one in found] == [
        (b"one", 2, b"\3"),
        (b"two", 2, b"\xff"),
    ]
    memory.seek(0)
    assert qcow2crypt.check(memory).leaks == 0


def test_no_more_bitmaps_than_the_format_has() -> None:
    (bitmap,) = stored(image(512, one=(9, b"\1")))
    present = [bitmap.entry] * 65535
    with pytest.raises(TargetError, match="cannot have 65536 bitmaps"):
        store_bitmaps([bitmap], 512, lambda _count: 9, lambda _data, _at: None, present=present)
