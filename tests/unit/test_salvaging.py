"""Reading past errors, held against reading every sector alone; and extents past bad tables."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.errors import ArgumentError, FormatError, MappingError, SourceError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.info import ImageInfo
from qcow2crypt.image.layers import Ranges
from qcow2crypt.tasks.conversion import convert
from qcow2crypt.tasks.salvaging import Loss, Salvager
from qcow2crypt.units import SECTOR_SIZE, GuestOffset

CLUSTER = 4096


class Broken(Image):
    """A disk of which some sectors cannot be read, and some clusters cannot be told."""

    def __init__(self, content: bytes, unreadable: set[int], untold: set[int]) -> None:
        super().__init__(len(content))
        self.name = "broken"
        self.content = content
        self.unreadable = unreadable
        self.untold = untold

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.size if length is None else start + length
        while start < end:
            number = start // CLUSTER
            stop = min(end, (number + 1) * CLUSTER)
            if number in self.untold:
                raise MappingError(
                    "bad", field="entry", offset=0, found="?", allowed="!",
                    guest_offset=number * CLUSTER,
                )  # fmt: skip
            kind = ExtentKind.DATA if any(self.content[start:stop]) else ExtentKind.ZERO
            yield Extent(kind, GuestOffset(start), stop - start)
            start = stop

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        end = offset + view.nbytes
        for sector in range(offset // SECTOR_SIZE, -(-end // SECTOR_SIZE)):
            if sector in self.unreadable:
                raise SourceError(f"sector {sector} cannot be read")
        view[:] = self.content[offset:end]
        return ()

    @property
    def encrypted(self) -> bool:
        return False

    def info(self) -> ImageInfo:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _check_open(self) -> None:
        pass


def _content(sectors: int) -> bytes:
    noise = random.Random(sectors)
    parts = (noise.choice([bytes(512), noise.randbytes(512)]) for _ in range(sectors))
    return b"".join(parts)


@given(
    st.integers(1, 300),
    st.sets(st.integers(0, 299)),
    st.integers(0, 299),
    st.integers(1, 300),
)
def test_only_the_sectors_at_fault_are_lost(
    sectors: int, unreadable: set[int], first: int, count: int
) -> None:
    image = Broken(_content(sectors), unreadable, set())
    first = min(first, sectors - 1)
    count = min(count, sectors - first)
    view = memoryview(bytearray(b"?" * count * 512))
    salvager = Salvager()
    salvager.preadinto(image, view, first * 512)
    lost = sorted(unreadable & set(range(first, first + count)))
    for sector in range(first, first + count):
        wanted = bytes(512) if sector in lost else image.content[sector * 512 :][:512]
        assert view[(sector - first) * 512 :][:512] == wanted
    told = [
        sector
        for loss in salvager.losses()
        for sector in range(loss.guest_offset // 512, (loss.guest_offset + loss.length) // 512)
    ]
    assert told == lost
    assert len(salvager.losses()) == sum(sector - 1 not in lost for sector in lost)


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.integers(0, 39))
def test_extents_go_on_behind_what_cannot_be_told(
    clusters: int, untold: set[int], start: int
) -> None:
    image = Broken(_content(clusters * 8), set(), untold)
    start = min(start, clusters - 1) * CLUSTER
    position = start
    for extent in Salvager().extents(image.extents, start, image.size):
        assert extent.guest_offset == position
        position += extent.length
        content = image.content[extent.guest_offset : position]
        assert not (extent.reads_as_zero and any(content))
    assert position == image.size


def test_losses_of_two_images_are_told_apart() -> None:
    salvager = Salvager()
    for name in ("b", "a"):
        image = Broken(bytes(2048), {1, 2}, set())
        image.name = name
        salvager.preadinto(image, memoryview(bytearray(2048)), 0)
    assert salvager.losses() == (
        Loss("a", 512, 1024, "sector 1 cannot be read"),
        Loss("b", 512, 1024, "sector 1 cannot be read"),
    )


def test_a_mistake_of_the_caller_is_none_of_the_image() -> None:
    image = Broken(bytes(512), set(), set())
    with pytest.raises(ArgumentError):
        Salvager().preadinto(image, memoryview(bytearray(512)), -512)


@pytest.mark.parametrize("threads", [1, 4])
def test_convert_names_what_is_lost(tmp_path: Path, threads: int) -> None:
    """An entry that leads to no cluster: an error, or zeros and a loss."""
    source, target = tmp_path / "source", tmp_path / "target"
    raw = random.Random(1).randbytes(20 * CLUSTER)
    (tmp_path / "raw").write_bytes(raw)
    from qcow2crypt import Qcow2Options

    convert(
        tmp_path / "raw",
        source,
        source_format="raw",
        target_format="qcow2",
        options=Qcow2Options(cluster_size=CLUSTER),
    )
    data = bytearray(source.read_bytes())
    (l1,) = struct.unpack_from(">Q", data, 40)
    l2 = struct.unpack_from(">Q", data, l1)[0] & ((1 << 56) - 512)
    (entry,) = struct.unpack_from(">Q", data, l2 + 24)
    struct.pack_into(">Q", data, l2 + 24, entry | 512)
    source.write_bytes(data)
    with pytest.raises(FormatError):
        convert(source, target, threads=threads)
    assert not target.exists()
    result = convert(source, target, threads=threads, salvage=True)
    assert [(one.guest_offset, one.length) for one in result.losses] == [(3 * CLUSTER, CLUSTER)]
    assert "L2 entry" in result.losses[0].reason
    assert target.read_bytes() == raw[: 3 * CLUSTER] + bytes(CLUSTER) + raw[4 * CLUSTER :]
