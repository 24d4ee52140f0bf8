"""Runs of guest bytes, plain and encrypted, held against whole files that are decrypted slowly."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.spoiled import SpoiledSectorFile
from qcow2crypt.image.sectorfile import SectorFile
from qcow2crypt.reference import encrypt_sectors, passphrase_to_key

PASSPHRASE = b"sesame"
SECTORS = 300
GUEST_SECTOR = 1000
"""Of the first sector of the disk: that of the file is 0."""
RUN = 16
"""Sectors in a run; the runs of the disk lie in the file in another order."""
DISK = random.Random(5).randbytes(SECTORS * 512)
RUNS = list(range(0, SECTORS, RUN))
PLACES = random.Random(6).sample(RUNS[:-1], len(RUNS) - 1) + RUNS[-1:]


def stored(*, aes: bool) -> bytes:
    file = bytearray(len(DISK))
    key = passphrase_to_key(PASSPHRASE)
    for first, place in zip(RUNS, PLACES, strict=True):
        data = DISK[first * 512 : (first + RUN) * 512]
        if aes:
            data = encrypt_sectors(data, GUEST_SECTOR + first, key)
        file[place * 512 : place * 512 + len(data)] = data
    return bytes(file)


FILES = {aes: stored(aes=aes) for aes in (False, True)}


def cipher() -> SectorCipher:
    return SectorCipher.from_passphrase(PASSPHRASE)


def sector_file(kind: str) -> SectorFile:
    file = HostFile(io.BytesIO(FILES[kind != "plain"]))
    if kind == "spoiled":
        return SpoiledSectorFile(file, cipher(), raw_zeros=True, wrong_iv=True)
    return SectorFile(file, cipher() if kind == "aes" else None)


def runs_of(start: int, end: int) -> list[tuple[int, int]]:
    """For guest bytes of the disk: where each run ends, and where it lies."""
    found = []
    position = start
    while position < end:
        number = position // (RUN * 512)
        stop = min(end, (number + 1) * RUN * 512)
        host = PLACES[number] * 512 + position % (RUN * 512)
        found.append((GUEST_SECTOR * 512 + stop, host))
        position = stop
    return found


@pytest.mark.parametrize("kind", ["plain", "aes", "spoiled"])
@given(st.integers(0, len(DISK) - 1), st.integers(1, 3000) | st.integers(1, len(DISK)))
def test_any_range(kind: str, start: int, length: int) -> None:
    end = min(start + length, len(DISK))
    view = memoryview(bytearray(end - start))
    sector_file(kind).read_runs(view, GUEST_SECTOR * 512 + start, runs_of(start, end))
    assert view == DISK[start:end]


@pytest.mark.parametrize("skip", [0, 1, 511])
@pytest.mark.parametrize("less", [0, 1, 511])
@pytest.mark.parametrize("sectors", [2, 3, 127, 128, 129, 130, 290])
def test_one_run_of_any_length(skip: int, less: int, sectors: int) -> None:
    """Short ones are read by way of a wider buffer, of long ones only the ends."""
    data = encrypt_sectors(DISK, GUEST_SECTOR, passphrase_to_key(PASSPHRASE))
    file = SectorFile(HostFile(io.BytesIO(data)), cipher())
    view = memoryview(bytearray(sectors * 512 - skip - less))
    file.read(view, (GUEST_SECTOR + 3) * 512 + skip, 3 * 512 + skip)
    assert view == DISK[3 * 512 + skip : (3 + sectors) * 512 - less]


def test_a_file_without_its_key_gives_no_ciphertext() -> None:
    file = sector_file("aes")
    file.cipher = None
    with pytest.raises(ArgumentError, match="closed"):
        file.read(memoryview(bytearray(512)), 0, 0)
    file = sector_file("aes")
    file.close()
    file.close()
    assert file.encrypted
    assert file.cipher is None
