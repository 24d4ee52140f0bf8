"""The searches of given images, held against slow twins that look at everything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import LabError
from qcow2crypt.lab.search import first_change, search_marks, search_stages
from qcow2crypt.lab.stored import Stored

SECRET = "hunter2"
SIZE = 1 << 20


def make(path: Path, options: Qcow2Options, rng: random.Random) -> None:
    """A disk with data here and there, with sectors that begin alike, and two snapshots."""
    qcow2crypt.create(path, SIZE, secret=SECRET, options=options)
    with qcow2crypt.open(path, mode="r+", secret=SECRET) as disk:
        for _ in range(6):
            disk.pwrite(rng.randbytes(rng.randrange(1, 40000)), rng.randrange(SIZE - 40000))
        for number in rng.sample(range(SIZE // 512), 20):
            mark = bytes(a ^ b for a, b in zip(b"m" * 16, number.to_bytes(16, "little")))  # noqa: B905
            disk.pwrite(mark, number * 512)
        for name in ("one", "two"):
            disk.create_snapshot(name)
            for _ in range(3):
                disk.pwrite(rng.randbytes(700), rng.randrange(SIZE - 700))
            disk.write_zeroes(rng.randrange(SIZE // 2), 70000)


def slow_marks(path: Path) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    with Stored(path) as stored:
        for number, _, data in stored.sectors():
            found.setdefault(data[:16], []).append(number)
    return {block: numbers for block, numbers in found.items() if len(numbers) > 1}


def slow_stages(path: Path) -> list[tuple[str, int, int, int, set[int]]]:
    with Stored(path) as stored:
        now = {number: (host, data) for number, host, data in stored.sectors()}
        rows = []
        for snapshot in stored.snapshots():
            then = {number: (host, data) for number, host, data in stored.sectors(snapshot)}
            both = then.keys() & now.keys()
            moved = {number for number in both if then[number][0] != now[number][0]}
            changed = {number for number in moved if then[number][1] != now[number][1]}
            rows.append((snapshot.name, len(both), len(moved), len(moved - changed), changed))
        return rows


@pytest.mark.parametrize(
    "options",
    [
        Qcow2Options(encryption="aes"),
        Qcow2Options(encryption="aes", cluster_size=512, version=2),
        Qcow2Options(encryption="aes", cluster_size=16384, extended_l2=True),
    ],
    ids=["usual", "small", "subclusters"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_they_find_what_a_look_at_everything_finds(
    options: Qcow2Options, seed: int, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    make(path, options, random.Random(seed))
    marks = search_marks(path)
    assert set(marks.groups) == {tuple(one) for one in slow_marks(path).values()}
    assert len(marks.groups[0]) >= 15
    encryption, stages = search_stages(path)
    assert (marks.encryption, encryption) == ("aes", "aes")
    wanted = slow_stages(path)
    assert [stage.snapshot for stage in stages] == ["one", "two"]
    for stage, (name, both, moved, equal, changed) in zip(stages, wanted, strict=True):
        told = {n for first, last in stage.changed for n in range(first, last + 1)}
        assert stage[:4] == (name, both, moved, equal)
        assert told == changed
        assert changed or moved == equal


def test_what_is_stored_decrypts_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "image"
    make(path, Qcow2Options(encryption="aes", cluster_size=4096), random.Random(3))
    cipher = qcow2crypt.SectorCipher.from_passphrase(SECRET)
    with qcow2crypt.open(path, secret=SECRET) as disk, Stored(path) as stored:
        seen = 0
        for number, host, data in stored.sectors():
            assert cipher.decrypt(data, number) == disk.pread(512, number * 512)
            assert stored.host_offset(number) == host
            seen += 1
        assert seen > 100


def test_a_usual_image_has_no_marks(tmp_path: Path) -> None:
    path = tmp_path / "image"
    raw = tmp_path / "raw"
    raw.write_bytes(b"the same text in every sector...".ljust(512) * 2048)
    qcow2crypt.convert(
        raw,
        path,
        source_format="raw",
        target_format="qcow2",
        options=Qcow2Options(encryption="aes"),
        target_secret=SECRET,
    )
    marks = search_marks(path)
    assert (marks.sectors, marks.zero, marks.groups) == (2048, 0, ())
    assert search_stages(path) == ("aes", ())


def test_holes_are_no_ciphertext(tmp_path: Path) -> None:
    """What QEMU preallocates is zeros in the file; all of these would begin alike."""
    path = tmp_path / "image"
    qcow2crypt.create(path, SIZE, secret=SECRET, options=Qcow2Options(encryption="aes"))
    with qcow2crypt.open(path, mode="r+", secret=SECRET) as disk:
        disk.pwrite(b"data" * 4096, 0)
    with Stored(path) as stored:
        host = stored.host_offset(64)
    with path.open("r+b") as file:
        file.seek(host)
        file.write(bytes(64 * 512))
    marks = search_marks(path)
    assert (marks.sectors, marks.zero, marks.groups) == (64, 64, ())


def test_what_is_no_encrypted_qcow2_image_is_refused_by_name(tmp_path: Path) -> None:
    plain, raw = tmp_path / "plain", tmp_path / "raw"
    qcow2crypt.create(plain, SIZE)
    raw.write_bytes(bytes(4096))
    with pytest.raises(LabError, match="plain' is not encrypted"):
        search_marks(plain)
    with pytest.raises(LabError, match="raw' is of the format raw"):
        search_stages(raw)
    external = tmp_path / "external"
    options = Qcow2Options(encryption="aes", data_file=str(tmp_path / "data"))
    qcow2crypt.create(external, SIZE, secret=SECRET, options=options)
    with pytest.raises(LabError, match="keeps its data in another file"):
        search_marks(external)


def test_an_image_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    """One L2 table in all entries of L1: petabytes of data in a small file."""
    path = tmp_path / "image"
    qcow2crypt.create(path, 1 << 50, secret=SECRET, options=Qcow2Options(
        encryption="aes", cluster_size=2 << 20,
    ))  # fmt: skip
    with qcow2crypt.open(path, mode="r+", secret=SECRET) as disk:
        disk.pwrite(b"data", 0)
    image = bytearray(path.read_bytes())
    l1_size = int.from_bytes(image[36:40], "big")
    l1_offset = int.from_bytes(image[40:48], "big")
    l2_offset = int.from_bytes(image[l1_offset : l1_offset + 8], "big") & 0x00FFFFFFFFFFFE00
    image[l1_offset : l1_offset + 8 * l1_size] = image[l1_offset : l1_offset + 8] * l1_size
    entries = (2 << 20) // 8
    image[l2_offset : l2_offset + (2 << 20)] = image[l2_offset : l2_offset + 8] * entries
    path.write_bytes(image)
    with pytest.raises(LabError, match="name more data than is in the file"):
        search_marks(path)


def test_a_sector_that_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "image"
    qcow2crypt.create(path, SIZE, secret=SECRET, options=Qcow2Options(encryption="aes"))
    with Stored(path) as stored:
        with pytest.raises(LabError, match="sector 7 is not stored"):
            stored.host_offset(7)
        with pytest.raises(LabError, match="sectors 7 to 8 are not all stored"):
            stored.ciphertext(7, 2)
        with pytest.raises(LabError, match="no LUKS header"):
            stored.luks()


def test_the_first_change() -> None:
    assert first_change(bytes(512), bytes(512)) is None
    assert first_change(bytes(512), bytes(40) + b"x" + bytes(471)) == 2
