"""Noise is told from a disk: the hint about a wrong passphrase."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import golden
import pytest
from cli.commandline import PASSPHRASE, Run
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.image.base import Extent, ExtentKind
from qcow2crypt.image.layers import Ranges
from qcow2crypt.tasks.plausible import HEAD_LENGTH, Look, find_signature, is_fill, is_noise, look_at
from qcow2crypt.units import GuestOffset

SIGNATURES = [
    (510, b"\x55\xaa", "a boot record"),
    (512, b"EFI PART", "a GUID partition table"),
    (0x438, b"\x53\xef", "an ext file system"),
    (3, b"NTFS    ", "an NTFS file system"),
    (82, b"FAT32   ", "a FAT file system"),
    (54, b"FAT16   ", "a FAT file system"),
    (512, b"LABELONE", "an LVM volume"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (4086, b"SWAPSPACE2", "a swap area"),
]


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize(("offset", "magic", "name"), SIGNATURES)
def test_a_signature_is_found_in_noise(offset: int, magic: bytes, name: str) -> None:
    head = bytearray(noise(HEAD_LENGTH))
    assert find_signature(bytes(head)) is None
    head[offset : offset + len(magic)] = magic
    assert find_signature(bytes(head)) == name


@pytest.mark.parametrize("length", [0, 1, 511, 513, 40_000])
def test_a_short_disk_has_no_signature(length: int) -> None:
    assert find_signature(bytes(length)) is None


@given(st.integers(0, 2**32))
def test_random_sectors_are_noise(seed: int) -> None:
    data = noise(64 * 512, seed)
    assert all(is_noise(data[start : start + 512]) for start in range(0, len(data), 512))


def test_decrypted_zeros_are_no_data() -> None:
    cipher = qcow2crypt.SectorCipher.from_passphrase(PASSPHRASE)
    for sector in (0, 1, 1 << 40):
        assert is_fill(bytes(cipher.decrypt(bytes(512), sector)))
    for data in (bytes(512), b"\xff" * 512, noise(512), b"text " * 102 + b"xx"):
        assert not is_fill(data)


@pytest.mark.parametrize(
    "sector",
    [bytes(512), b"\xff" * 512, b"All work and no play " * 24 + b"makes so", bytes(256) * 2],
)
def test_ordinary_sectors_are_no_noise(sector: bytes) -> None:
    assert len(sector) == 512
    assert not is_noise(sector)


def make(tmp_path: Path, disk: bytes) -> Path:
    raw, image = tmp_path / "disk", tmp_path / "image"
    raw.write_bytes(disk)
    options = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=4096)
    qcow2crypt.convert(
        str(raw),
        str(image),
        source_format="raw",
        target_format="qcow2",
        options=options,
        target_secret=PASSPHRASE,
    )
    return image


def look(image: Path, passphrase: str) -> Look:
    with qcow2crypt.open(str(image), passphrase) as disk:
        return look_at(disk)


@pytest.mark.parametrize(
    ("disk", "seen"),
    [
        (bytes(510) + b"\x55\xaa" + noise(65024), "a boot record"),
        (b"Nothing that is known, but no noise. " * 2000, "data that is not noise"),
        (bytes(1 << 20) + b"far behind the start " * 2000, "data that is not noise"),
        (bytes(1 << 20), "no stored data"),
        (b"", "no stored data"),
    ],
)
def test_the_right_passphrase_shows_a_disk(disk: bytes, seen: str, tmp_path: Path) -> None:
    assert look(make(tmp_path, disk), PASSPHRASE) == Look(plausible=True, seen=seen)


@pytest.mark.parametrize(
    "disk",
    [
        bytes(510) + b"\x55\xaa" + bytes(3584) + b"text " * 1000,
        bytes(1 << 20) + b"far behind the start " * 2000,
        bytes(511) + b"\x01",
    ],
)
def test_a_wrong_passphrase_shows_noise(disk: bytes, tmp_path: Path) -> None:
    image = make(tmp_path, disk)
    assert look(image, PASSPHRASE + "!") == Look(plausible=False, seen="nothing but noise")
    assert look(image, PASSPHRASE).plausible


def test_a_disk_of_random_bytes_looks_like_a_wrong_passphrase(tmp_path: Path) -> None:
    assert not look(make(tmp_path, noise(1 << 17)), PASSPHRASE).plausible


class Mixed(qcow2crypt.Image):
    """Zeros, a compressed cluster in clear, then noise: what a wrong passphrase can show."""

    format = "qcow2"
    name = "mixed"
    encrypted = True

    def own_extents(self, start: int = 0, length: int | None = None) -> Iterator[Extent]:
        del start, length
        yield Extent(ExtentKind.COMPRESSED, GuestOffset(0), 65536)
        yield Extent(ExtentKind.UNALLOCATED, GuestOffset(65536), 65536)
        yield Extent(ExtentKind.DATA, GuestOffset(131072), 65536)

    def info(self) -> qcow2crypt.ImageInfo:
        raise NotImplementedError

    def identity(self) -> None:
        return None

    def _read_own(self, view: memoryview, offset: GuestOffset) -> Ranges:
        view[:] = noise(view.nbytes) if offset >= 131072 else b"c" * view.nbytes
        return ()


def test_only_decrypted_data_counts() -> None:
    with Mixed(196608) as image:
        assert look_at(image) == Look(plausible=False, seen="nothing but noise")


@pytest.mark.parametrize("name", golden.ENCRYPTED)
def test_golden_images_with_a_wrong_passphrase(name: str) -> None:
    image = golden.load(name)
    with qcow2crypt.open(str(image.path), "not this one") as disk:
        stored = any(
            extent.kind is ExtentKind.DATA and not extent.depth for extent in disk.extents()
        )
        assert look_at(disk).plausible is not stored


def test_convert_warns_once_and_goes_on(
    run: Run, encrypted: Path, raw: Path, key: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect horse")
    done = run("convert", "--secret-file", wrong, encrypted, target)
    assert (done.status, done.out) == (0, "")
    assert done.err.count("does not look like a disk") == 1
    assert "compare it letter by letter" in done.err
    assert target.stat().st_size == raw.stat().st_size
    assert run("convert", "-q", "--secret-file", wrong, encrypted, target).err == ""
    assert run("convert", "--secret-file", key, encrypted, target).err == ""
