"""A target is read again: what is equal, what is not, and what is told."""

from __future__ import annotations

import hashlib
import io
import random

import pytest

import qcow2crypt
from qcow2crypt.errors import TargetError
from qcow2crypt.tasks.verification import verify

MIB = 1 << 20
DISK = random.Random(7).randbytes(5 * MIB + 512)


def raw(data: bytes) -> qcow2crypt.Image:
    return qcow2crypt.open(io.BytesIO(data), format="raw")


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_hash_is_that_of_the_disk(threads: int) -> None:
    steps: list[tuple[int, int]] = []
    with raw(DISK[: 2 * MIB]) as one, raw(DISK[2 * MIB :]) as two, raw(DISK) as target:
        found = verify(
            (one, two), target, progress=lambda *step: steps.append(step), threads=threads
        )
    assert found == hashlib.sha256(DISK).hexdigest()
    assert steps == sorted(steps)
    assert steps[-1] == (len(DISK), len(DISK))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("place", [0, MIB - 1, 3 * MIB + 77, len(DISK) - 1])
def test_one_byte_is_enough(place: int, threads: int) -> None:
    other = bytearray(DISK)
    other[place] ^= 1
    with (
        raw(DISK) as source,
        raw(bytes(other)) as target,
        pytest.raises(TargetError, match=f"guest offset {place // MIB * MIB:#x} on"),
    ):
        verify((source,), target, threads=threads)


def test_a_shorter_target() -> None:
    with raw(DISK) as source, raw(DISK[:-512]) as target, pytest.raises(TargetError):
        verify((source,), target)
