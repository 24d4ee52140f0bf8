"""``compare`` finds the same with any number of threads, and as its slow twin."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.slow_comparison import slow_compare

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError, ComparisonError
from qcow2crypt.tasks import comparison

SECTORS = st.lists(st.sampled_from([0, 1, 2]), min_size=0, max_size=40)


def disk(sectors: list[int]) -> bytes:
    return b"".join(bytes([one]) * 512 for one in sectors)


@pytest.mark.parametrize("threads", [1, 2, 5])
@given(
    first=SECTORS, second=SECTORS, piece=st.sampled_from([512, 1024, 4096]), strict=st.booleans()
)
def test_as_the_slow_twin(
    threads: int, first: list[int], second: list[int], piece: int, strict: bool
) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        qcow2crypt.open(io.BytesIO(disk(first)), format="raw") as one,
        qcow2crypt.open(io.BytesIO(disk(second)), format="raw") as other,
    ):
        patch.setattr(comparison, "_PIECE", piece)
        patch.setattr(comparison, "_PIECES_MAX", 2)
        found = qcow2crypt.compare(one, other, strict=strict, threads=threads)
        assert found == slow_compare(one, other, strict=strict)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """One disk, with small changes, stored in several ways."""
    rng = random.Random(3)
    content = bytearray(rng.randbytes(256 << 10) + bytes(256 << 10) + rng.randbytes(128 << 10))
    paths = []
    for number, options in enumerate(
        (
            None,
            Qcow2Options(cluster_size=512),
            Qcow2Options(cluster_size=4096, preallocation="metadata"),
            Qcow2Options(cluster_size=65536, extended_l2=True),
        )
    ):
        path = tmp_path / f"{number}"
        for change in (None, 0, 300 << 10, len(content) - 1):
            changed = bytearray(content)
            if change is not None:
                changed[change] ^= 1
            source, target = tmp_path / "raw", path.with_name(f"{number}-{change}")
            source.write_bytes(changed)
            qcow2crypt.convert(
                source,
                target,
                source_format="raw",
                target_format="raw" if options is None else "qcow2",
                options=options,
            )
            paths.append(target)
    return paths


@pytest.mark.parametrize("strict", [False, True])
def test_ways_of_storing(strict: bool, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_PIECE", 8192)
    differences = set()
    for first in images:
        for second in images[::3]:
            with qcow2crypt.open(first) as one, qcow2crypt.open(second) as other:
                wanted = slow_compare(one, other, strict=strict)
                for threads in (1, 3):
                    assert qcow2crypt.compare(one, other, strict=strict, threads=threads) == wanted
                differences.add((wanted.first_difference, wanted.allocation_difference))
    assert len(differences) > 3


class Bad(io.BytesIO):
    """A file that cannot be read from some offset on."""

    limit = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.tell() >= self.limit:
            raise OSError(5, "bad sector")
        return super().readinto(buffer[: self.limit - self.tell()])


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("differs", "fails"), [(3000, 8192), (9000, 4096), (None, 12288)])
def test_what_comes_first_counts(
    threads: int, differs: int | None, fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_PIECE", 1024)
    monkeypatch.setattr(comparison, "_PIECES_MAX", 1)
    good = bytearray(b"x" * 16384)
    file = Bad(bytes(good))
    file.limit = fails
    if differs is not None:
        good[differs] = 0
    with (
        qcow2crypt.open(file, format="raw") as bad,
        qcow2crypt.open(io.BytesIO(good), format="raw") as other,
    ):
        if differs is not None and differs < fails:
            assert qcow2crypt.compare(bad, other, threads=threads).first_difference == differs
        else:
            with pytest.raises(ComparisonError) as caught:
                qcow2crypt.compare(bad, other, threads=threads)
            assert caught.value.guest_offset == fails


@pytest.mark.parametrize("threads", [0, 17])
def test_numbers_of_threads(threads: int) -> None:
    with qcow2crypt.open(io.BytesIO(), format="raw") as image, pytest.raises(ArgumentError):
        qcow2crypt.compare(image, image, threads=threads)
