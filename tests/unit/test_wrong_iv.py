"""The sectors that QEMU 2.7.0 encrypted with the number of the host sector."""

from __future__ import annotations

import io
import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt import SectorCipher
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2.wrong_iv import correct, suspects
from qcow2crypt.testing.damage.tiny import COPIED, put_fields, tiny
from qcow2crypt.units import SectorNumber

SECRET = "an old secret"
CIPHER = SectorCipher.from_passphrase(SECRET)
CLUSTER = 4096
SECTORS = CLUSTER // 512


def read_back(plain: bytes, guest: int, host: int) -> bytes:
    """What 2.7.0 makes of a sector: encrypted by host number, decrypted by guest number."""
    return CIPHER.decrypt(CIPHER.encrypt(plain, host), guest)


numbers = st.integers(0, 2**48).map(SectorNumber)


@given(numbers, numbers, st.binary(min_size=16, max_size=16))
def test_repeating_sectors_are_found_and_put_right(
    guest: SectorNumber, host: SectorNumber, block: bytes
) -> None:
    wanted = block * 32
    spoiled = read_back(wanted, guest, host)
    found = suspects(spoiled, guest, host)
    assert found == ([0] if guest != host else [])
    buffer = bytearray(spoiled)
    assert correct(memoryview(buffer), guest, host) == len(found)
    assert buffer == wanted


@given(numbers, numbers, st.binary(min_size=16, max_size=16))
def test_the_same_sectors_encrypted_well_are_not_touched(
    guest: SectorNumber, host: SectorNumber, block: bytes
) -> None:
    assert suspects(block * 32, guest, host) == []


@pytest.mark.parametrize(
    "sector",
    [
        bytes(512),
        b"\xff" * 512,
        bytes(range(256)) * 2,
        random.Random(1).randbytes(512),
        (1).to_bytes(8, "little") + bytes(504),
        bytes(16) + b"x" + bytes(495),
        struct.pack("<64Q", *range(64)),
    ],
)
def test_ordinary_sectors_are_no_suspects(sector: bytes) -> None:
    for guest, host in ((0, 1000), (1, 2), (77, 4711), (2**40, 99)):
        if sector[:8] == ((guest ^ host).to_bytes(8, "little")):
            continue
        assert suspects(sector, SectorNumber(guest), SectorNumber(host)) == []


def test_content_decides_and_random_content_tells_nothing() -> None:
    noise = random.Random(2).randbytes(512)
    assert suspects(read_back(noise, 5, 90), SectorNumber(5), SectorNumber(90)) == []
    begins_with_zeros = bytes(64) + noise[64:]
    spoiled = read_back(begins_with_zeros, 5, 90)
    assert suspects(spoiled, SectorNumber(5), SectorNumber(90)) == [0]


def old_image() -> tuple[bytes, bytes, bytes]:
    """An image with one cluster as 2.7.0 writes it: file, true disk, disk as it reads today.

    The guest wrote sectors 3 and 4 of cluster 2; head and tail are zeros with host numbers.
    """
    written = random.Random(3).randbytes(1024)
    cluster = bytes(3 * 512) + written + bytes(3 * 512)
    guest, host = 2 * SECTORS, 5 * SECTORS
    stored = b"".join(
        CIPHER.encrypt(cluster[n * 512 :][:512], (guest if n in (3, 4) else host) + n)
        for n in range(SECTORS)
    )
    table = struct.pack(">3Q", 0, 0, 5 * CLUSTER | COPIED).ljust(CLUSTER, b"\0")
    head = put_fields(tiny(cluster_bits=12).data[: 4 * CLUSTER], {"crypt_method": 1})
    disk = bytes(2 * CLUSTER) + cluster + bytes(CLUSTER)
    today = bytearray(disk)
    for n in (0, 1, 2, 5, 6, 7):
        difference = (guest + n) ^ (host + n)
        struct.pack_into("<Q", today, 2 * CLUSTER + n * 512, difference)
    return head + table + stored, disk, bytes(today)


FILE, DISK, TODAY = old_image()


def test_without_the_option_the_image_reads_as_in_qemu_today() -> None:
    with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET) as image:
        assert image.readall() == TODAY


def test_with_the_option_it_reads_as_it_was_written() -> None:
    with qcow2crypt.open(io.BytesIO(FILE), secret=SECRET, wrong_iv="qemu-2.7.0") as image:
        assert image.readall() == DISK
        for start in (0, 1, 3, 511, 512, 1000, 1536, 3000):
            at = 2 * CLUSTER + start
            assert image.pread(700, at) == DISK[at : at + 700]


def test_an_image_without_such_sectors_reads_the_same_with_the_option() -> None:
    whole = DISK[2 * CLUSTER : 3 * CLUSTER]
    good = FILE[: 5 * CLUSTER] + CIPHER.encrypt(whole, 2 * SECTORS)
    with qcow2crypt.open(io.BytesIO(good), secret=SECRET, wrong_iv="qemu-2.7.0") as image:
        assert image.readall() == DISK


def test_a_conversion_takes_the_option() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for how, disk in (({"wrong_iv": "qemu-2.7.0"}, DISK), ({}, TODAY)):
            target = Path(folder) / "disk"
            qcow2crypt.convert(io.BytesIO(FILE), target, secret=SECRET, **how)  # type: ignore[arg-type]
            assert target.read_bytes() == disk


@pytest.mark.parametrize("option", ["wrong_iv", "raw_zeros"])
def test_options_have_names(option: str) -> None:
    with pytest.raises(ArgumentError, match=option):
        qcow2crypt.open(io.BytesIO(FILE), secret=SECRET, **{option: "2.7"})  # type: ignore[arg-type]


class TestRawZeros:
    """A cluster that was allocated and never written holds zeros, not ciphertext."""

    FILE = FILE[: 5 * CLUSTER] + CIPHER.encrypt(b"A" * 512, 2 * SECTORS) + bytes(CLUSTER - 512)
    NOISE = CIPHER.decrypt(bytes(CLUSTER), 2 * SECTORS)[512:]

    @pytest.mark.parametrize("cut", [0, 1, 512, 3000])
    def test_qemu_reads_noise_and_so_do_we_unless_asked(self, cut: int) -> None:
        """The end of the file may lie among these zeros."""
        file = self.FILE[: len(self.FILE) - cut]
        start, length = 2 * CLUSTER, CLUSTER
        with qcow2crypt.open(io.BytesIO(file), secret=SECRET) as image:
            assert image.pread(length, start) == b"A" * 512 + self.NOISE
        with qcow2crypt.open(io.BytesIO(file), secret=SECRET, raw_zeros="zeros") as image:
            assert image.pread(length, start) == b"A" * 512 + bytes(CLUSTER - 512)
            assert image.pread(600, start + 300) == b"A" * 212 + bytes(388)
            assert image.readall()[start : start + 520] == b"A" * 512 + bytes(8)

    def test_it_means_nothing_in_a_plain_image(self) -> None:
        body = tiny()
        with qcow2crypt.open(io.BytesIO(body.data), raw_zeros="zeros") as image:
            assert image.readall() == body.content
