"""Images made by real QEMU, from 2013 to today: read, mapped, described, or refused by name.

What they hold was written down when they were made: see corpus/golden/README.md.
"""

from __future__ import annotations

import io
from pathlib import Path

import golden
import pytest
from support import every_engine

import qcow2crypt
from qcow2crypt.errors import SecretRequiredError, UnsupportedFeatureError
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.testing.witness import Disk, QemuImg
from qcow2crypt.units import SECTOR_SIZE

SMALL = 64 << 10  # the slow engines decrypt about so much in a second

FORMATS = {".luks": "luks", ".qcow": "qcow", ".qcow2": "qcow2"}


@pytest.mark.parametrize("name", golden.READABLE)
def test_guest_disk(name: str) -> None:
    image = golden.load(name)
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        assert disk.size == image.size
        assert golden.sha256(disk.readall()) == image.manifest["guest_sha256"]


@pytest.mark.parametrize("name", golden.READABLE)
def test_single_sectors(name: str) -> None:
    image = golden.load(name)
    assert image.sectors, "the manifest tells of no sector"
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        for row in image.sectors:
            sector = disk.pread(SECTOR_SIZE, row["sector"] * SECTOR_SIZE)
            assert golden.sha256(sector) == row["plaintext_sha256"]
            assert sector.startswith(bytes.fromhex(row.get("plaintext_first16", "")))


@pytest.mark.parametrize("engine", every_engine.ENGINES)
@pytest.mark.parametrize("name", golden.ENCRYPTED)
def test_every_engine_reads_the_same(name: str, engine: str) -> None:
    every_engine.engine(engine)
    image = golden.load(name)
    sectors = [row for row in image.sectors if row["sector"] * SECTOR_SIZE < SMALL]
    if engine == "reference":
        sectors = sectors[:3]
    with qcow2crypt.open(image.path, secret=image.secret, engine=engine) as disk:
        for row in sectors:
            sector = disk.pread(SECTOR_SIZE, row["sector"] * SECTOR_SIZE)
            assert golden.sha256(sector) == row["plaintext_sha256"]
        if engine != "reference" and image.size <= SMALL:
            assert golden.sha256(disk.readall()) == image.manifest["guest_sha256"]


@pytest.mark.parametrize("name", golden.READABLE)
def test_where_sectors_lie(name: str) -> None:
    """Through ``own_extents``: host offsets, kinds, and the ciphertext that is there."""
    image = golden.load(name)
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        for row in image.sectors:
            (extent,) = disk.own_extents(row["sector"] * SECTOR_SIZE, SECTOR_SIZE)
            assert extent.length == SECTOR_SIZE
            if "host_offset" in row:
                assert extent.host_offset == row["host_offset"]
                raw = qcow2crypt.open(image.path, format="raw")
                with raw:
                    stored = raw.pread(SECTOR_SIZE, row["host_offset"])
                # What lies behind the end of the file is zero.
                stored = stored.ljust(SECTOR_SIZE, b"\0")
                if "ciphertext_sha256" in row:
                    assert extent.kind is ExtentKind.DATA
                    assert golden.sha256(stored) == row["ciphertext_sha256"]
            elif "l2_entry" in row:
                entry = int(row["l2_entry"], 16)
                compressed = bool(entry >> 62 & 1)
                assert (extent.kind is ExtentKind.COMPRESSED) is compressed
                assert extent.reads_as_zero is not compressed


@pytest.mark.parametrize("name", golden.ENCRYPTED)
def test_wrong_passphrase_is_no_error(name: str) -> None:
    image = golden.load(name)
    with (
        qcow2crypt.open(image.path, secret=image.secret) as right,
        qcow2crypt.open(image.path, secret=b"\xff wrong") as wrong,
    ):
        decrypted = 0
        for extent in right.extents():
            for at in range(extent.guest_offset, extent.guest_offset + extent.length, SECTOR_SIZE):
                same = right.pread(SECTOR_SIZE, at) == wrong.pread(SECTOR_SIZE, at)
                assert same is (extent.kind is not ExtentKind.DATA or extent.depth > 0)
            decrypted += extent.kind is ExtentKind.DATA
        assert decrypted, "there was nothing to decrypt"


@pytest.mark.parametrize("name", golden.ENCRYPTED)
def test_only_sixteen_bytes_of_a_passphrase_count(name: str) -> None:
    image = golden.load(name)
    assert image.secret is not None
    key = image.secret.encode()[:16]
    for same in (key.ljust(16, b"\0"), key.ljust(16, b"\0") + b"more"):
        with qcow2crypt.open(image.path, secret=same) as disk:
            assert golden.sha256(disk.readall()) == image.manifest["guest_sha256"]


@pytest.mark.parametrize("name", golden.ENCRYPTED)
def test_a_passphrase_is_needed(name: str) -> None:
    image = golden.load(name)
    with pytest.raises(SecretRequiredError, match=r"encrypted: a passphrase is needed"):
        qcow2crypt.open(image.path)


@pytest.mark.parametrize(("name", "feature"), golden.UNREADABLE.items())
def test_what_is_not_read_yet_is_refused_by_name(name: str, feature: str) -> None:
    image = golden.load(name)
    with pytest.raises(UnsupportedFeatureError) as caught:
        qcow2crypt.open(image.path, secret=image.secret)
    assert feature in caught.value.feature
    assert name in str(caught.value)
    assert str(image.secret) not in str(caught.value)


@pytest.mark.parametrize("name", golden.NAMES)
def test_it_is_described_whether_or_not_it_is_read(name: str) -> None:
    image = golden.load(name)
    info = qcow2crypt.info(image.path)
    assert info.format == FORMATS[image.path.suffix]
    assert info.virtual_size == image.size
    assert info.file_size == len(image.data)
    scheme = "luks" if "luks" in name else "aes"
    assert info.encryption == (scheme if image.secret is not None else None)
    assert bool(info.why_unreadable) is (name in golden.UNREADABLE)
    assert golden.UNREADABLE.get(name, "") in "; ".join(info.why_unreadable)
    header = image.manifest.get("header", {})
    ours = info.details.get("header", {})
    assert header.get("cluster_size", info.cluster_size) == info.cluster_size
    for key in ("version", "crypt_method", "incompatible_features", "nb_snapshots"):
        assert header.get(key, ours.get(key)) == ours.get(key)


@pytest.mark.parametrize("name", golden.NAMES)
def test_qemu_img_info_says_the_same(name: str, qemu_img: QemuImg) -> None:
    image = golden.load(name)
    theirs = qemu_img.info(Disk(image.path, FORMATS[image.path.suffix]))
    assert len(theirs) > 5
    assert golden.info_differences(theirs, qcow2crypt.info(image.path).as_dict()) == {}


@pytest.mark.parametrize("name", golden.ALONE)
def test_an_image_in_memory_is_the_same_image(name: str) -> None:
    image = golden.load(name)
    with (
        qcow2crypt.open(image.path, secret=image.secret) as on_disk,
        qcow2crypt.open(io.BytesIO(image.data), secret=image.secret) as in_memory,
    ):
        assert list(on_disk.extents()) == list(in_memory.extents())
        assert on_disk.pread(SMALL, 0) == in_memory.pread(SMALL, 0)


def test_a_snapshot_does_not_hide_the_active_disk() -> None:
    image = golden.load("aes-c512-snapshot.qcow2")
    (snapshot,) = qcow2crypt.info(image.path).snapshots
    (row,) = image.manifest["snapshots"]
    assert (snapshot.id, snapshot.name) == ("1", row["name"])
    assert (snapshot.l1_table_offset, snapshot.l1_size) == (row["l1_offset"], row["l1_entries"])
    assert row["guest_sha256"] != image.manifest["guest_sha256"]
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        assert golden.sha256(disk.readall()) == image.manifest["guest_sha256"]


def test_what_was_never_written_to_a_preallocated_image_is_noise() -> None:
    """QEMU decrypts the zeros of such clusters; where the file ends before them, too."""
    image = golden.load("aes-c64k-v3-prealloc.qcow2")
    with qcow2crypt.open(image.path, secret=image.secret) as disk:
        (extent,) = disk.extents()
        assert extent.kind is ExtentKind.DATA
        last = disk.pread(SECTOR_SIZE, disk.size - SECTOR_SIZE)
    assert len(set(last)) > 1


def test_compressed_clusters_are_not_decrypted() -> None:
    image = golden.load("aes-c4k-compressed.qcow2")
    with qcow2crypt.open(image.path, secret=b"whatever it is") as disk:
        kinds = [extent.kind for extent in disk.extents()]
        assert kinds.count(ExtentKind.COMPRESSED) == 2
        assert disk.pread(4096, 0) == b"\x41" * 4096
        assert disk.pread(4096, 8192) == b"\x42" * 4096


def test_zstd_needs_no_passphrase() -> None:
    image = golden.load("zstd-c4k.qcow2")
    with qcow2crypt.open(image.path, secret="not needed, and no error") as disk:
        assert [extent.kind for extent in disk.extents()] == [
            ExtentKind.COMPRESSED,
            ExtentKind.DATA,
            ExtentKind.UNALLOCATED,
            ExtentKind.COMPRESSED,
        ]


def test_the_images_lie_in_the_folder_with_their_manifests() -> None:
    folder = Path(golden.FOLDER)
    manifests = {path.name.removesuffix(".json") for path in folder.glob("*.json")}
    assert set(golden.NAMES) == manifests
    assert set(golden.UNREADABLE) <= set(golden.NAMES)
    assert all(path.stat().st_size <= 100_000 for path in folder.iterdir())
