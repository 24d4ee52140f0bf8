"""Known scenarios of QEMU's own tests for encrypted disks, in every direction.

The rows: E1 a fresh disk reads as zeros, holds what is written, and a wrong passphrase opens it;
E6 a small write across two clusters that do not exist yet; E20 an encrypted image without its
passphrase; A4 compressed clusters in clear inside an encrypted image.  What they ask of one
cluster size and version is asked of all.
"""

from __future__ import annotations

import pytest
from support.differential import CLUSTER_SIZES, PASSPHRASE, Case, NewCase, Target
from support.scenarios import DIRECTION_NAMES, DIRECTIONS, created, snapshot, write

from qcow2crypt.errors import SecretRequiredError
from qcow2crypt.testing.witness import Disk

MIB = 1 << 20
directions = pytest.mark.parametrize(("maker", "writer"), DIRECTIONS, ids=DIRECTION_NAMES)


def fresh_disk_then_patterns(case: Case, writer: str, image: Disk, size: int) -> None:
    """E1: zeros; then 0xb in sector 1; then 0xa everywhere; at last a wrong passphrase."""
    case.holds(image, 0, 0, size)
    write(case, writer, image, 0xB, 512, 512)
    case.holds(image, 0, 0, 512)
    case.holds(image, 0xB, 512, 512)
    case.holds(image, 0, 1024, size - 1024)
    write(case, writer, image, 0xA, 0, size)
    case.holds(image, 0xA, 0, size)
    case.nothing_to_find(image)
    wrong = Disk(image.path, "qcow2", "another passphrase")
    noise = case.read_by_us(wrong, 0, 4096)
    assert noise[:1] != b"\x0a"
    done = case.qemu.qemu_io(wrong, ["read -P 0xa 0 512"], check=False)
    assert "Pattern verification failed at offset 0" in done


@directions
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_e1(new_case: NewCase, cluster_size: int, version: int, maker: str, writer: str) -> None:
    with new_case() as case:
        size = max(MIB, 2 * cluster_size) + 512
        image = created(case, maker, Target("qcow2", cluster_size, version, PASSPHRASE), size)
        fresh_disk_then_patterns(case, writer, image, size)


@pytest.mark.slow
@directions
def test_e1_as_large_as_in_qemu(new_case: NewCase, maker: str, writer: str) -> None:
    with new_case() as case:
        image = created(case, maker, Target(passphrase=PASSPHRASE), 128 * MIB)
        fresh_disk_then_patterns(case, writer, image, 128 * MIB)


@directions
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_e6(new_case: NewCase, cluster_size: int, version: int, maker: str, writer: str) -> None:
    with new_case() as case:
        size = 4 * cluster_size + MIB
        image = created(case, maker, Target("qcow2", cluster_size, version, PASSPHRASE), size)
        case.holds(image, 0, 0, size)
        start, length = cluster_size - 512, 1024
        write(case, writer, image, 0xAA, start, length)
        case.holds(image, 0xAA, start, length)
        if start:
            case.holds(image, 0, 0, start)
        case.holds(image, 0, start + length, size - start - length)
        case.both_read_the_same(image)
        case.nothing_to_find(image)


@pytest.mark.parametrize("maker", ["ours", "theirs"])
def test_e20_without_a_passphrase(new_case: NewCase, maker: str) -> None:
    """The image is described and mapped by us; nobody reads it."""
    with new_case() as case:
        image = created(case, maker, Target(passphrase=PASSPHRASE), MIB)
        without = Disk(image.path)
        for run in (case.theirs, case.ours):
            raw = case.folder / "raw"
            outcome = run("convert", "-O", "raw", "-f", "qcow2", image.path, raw, check=False)
            assert outcome.status == 1
            assert not raw.exists()
        with pytest.raises(SecretRequiredError):
            case.read_by_us(without, 0, 512)
        case.same_info(image)


@directions
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_a4_compressed_clusters_in_clear(
    new_case: NewCase, cluster_size: int, version: int, maker: str, writer: str
) -> None:
    """Only QEMU compresses; what is written over them is encrypted."""
    with new_case() as case:
        c = cluster_size
        image = created(case, maker, Target("qcow2", c, version, PASSPHRASE), 8 * c + 512)
        case.qemu_io(
            image,
            f"write -c -P 0x11 {c} {c}",
            f"write -c -P 0x33 {3 * c} {2 * c}",
        )
        write(case, writer, image, 0x22, 2 * c, c)
        write(case, writer, image, 0x44, 4 * c + c // 2 - 256, 512)
        case.holds(image, 0x11, c, c)
        case.holds(image, 0x22, 2 * c, c)
        case.holds(image, 0x33, 3 * c, c)
        case.holds(image, 0x44, 4 * c + c // 2 - 256, 512)
        case.both_read_the_same(image)
        case.nothing_to_find(image)


@directions
@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_a3_the_same_data_after_a_snapshot_is_the_same_ciphertext(
    new_case: NewCase, cluster_size: int, maker: str, writer: str
) -> None:
    """Not a fault of ours to mend: the IV knows the guest sector and nothing else."""
    with new_case() as case:
        target = Target(cluster_size=cluster_size, passphrase=PASSPHRASE)
        image = created(case, maker, target, 8 * cluster_size)
        write(case, writer, image, 0x5A, 0, cluster_size)
        snapshot(case, writer, image, "before")
        write(case, writer, image, 0x5A, 0, cluster_size)
        case.holds(image, 0x5A, 0, cluster_size)
        data = image.path.read_bytes()
        with_data = [at for at in range(0, len(data), cluster_size)
                     if data[at : at + 512] == ciphertext(case, image)]  # fmt: skip
        assert len(with_data) == 2


def ciphertext(case: Case, image: Disk) -> bytes:
    """What lies in the file for guest sector 0."""
    import qcow2crypt

    with qcow2crypt.open(image.path, PASSPHRASE) as disk:
        host = next(iter(disk.extents(0, 512))).host_offset
    assert host is not None
    return image.path.read_bytes()[host : host + 512]
