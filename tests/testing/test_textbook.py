"""The slow reader agrees with QEMU, knows where bytes lie, and counts references."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.testing.case import Case, Layer, Snapshot, Write, WriteZeroes
from qcow2crypt.testing.dates import DATE, with_one_date
from qcow2crypt.testing.generate import PROFILES, make_case
from qcow2crypt.testing.ours import open_case
from qcow2crypt.testing.regions import low_refcounts, region_at, regions
from qcow2crypt.testing.textbook import Layer as Image
from qcow2crypt.testing.textbook import read_image
from qcow2crypt.testing.tools import QemuTools
from qcow2crypt.testing.witness import QemuImg
from qcow2crypt.units import SECTOR_SIZE

LARGEST = 128 << 10  # its AES takes a second for this


def small_cases(profile: str) -> list[Case]:
    found = (make_case(random.Random(f"textbook {n}"), profile) for n in range(200))
    return [case for case in found if all(one.last_size < LARGEST for one in case.layers)][:3]


@pytest.mark.parametrize("profile", PROFILES)
def test_it_reads_what_qemu_reads(qemu_img: QemuImg, tmp_path: Path, profile: str) -> None:
    tools = QemuTools.find()
    for number, case in enumerate(small_cases(profile)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tools.make(case, folder)
        form = case.top.format
        for snapshot in (None, *case.top.snapshots):
            found = read_image(folder / case.image, form, case.secrets, snapshot)
            wanted = tools.read(case, folder, snapshot)
            common = len(wanted) if snapshot is None else min(len(wanted), len(found))
            assert found[:common] == wanted[:common], case
        image = Image(folder / case.image, form, case.secrets)
        assert form != "qcow2" or low_refcounts(image) == {}, case
        with open_case(case, folder) as disk:
            for offset in range(0, disk.size, 37 * SECTOR_SIZE):
                extent = next(disk.extents(offset, 1))
                kind, host, depth = image.place(offset)
                assert kind == extent.kind.value, (case, offset)
                if kind in ("data", "compressed"):
                    assert (host, depth) == (extent.host_offset, extent.depth), (case, offset)


def test_regions_have_names_and_counts(qemu_img: QemuImg, tmp_path: Path) -> None:
    operations = (Write(0, 512), Snapshot("create", "a"), WriteZeroes(0, 512), Write(65536, 1))
    case = Case((Layer(1 << 20, operations=operations),))
    QemuTools.find().make(case, tmp_path)
    path = tmp_path / case.image
    image = Image(path, "qcow2", {})
    assert region_at(image, 0) == "header"
    assert region_at(image, 0x10000) == "refcount table"
    assert region_at(image, 0x20000) == "refcount block"
    assert region_at(image, 0x30000) == "L1 table"
    assert region_at(image, 1 << 40) == "a cluster that nothing refers to"
    data = [words for words in regions(image).values() if words[0].startswith("data of guest")]
    assert ["data of guest offset 0x0 of snapshot a"] in data
    shared = 5  # the first data cluster
    assert low_refcounts(image) == {}
    content = bytearray(image.file)
    content[0x20000 + 2 * shared : 0x20002 + 2 * shared] = bytes(2)
    torn = Image(path, "qcow2", {}, bytes(content))
    assert list(low_refcounts(torn)) == [shared]


def test_without_their_dates_two_images_are_the_same(qemu_img: QemuImg, tmp_path: Path) -> None:
    operations = (Write(0, 512), Snapshot("create", "one"), Snapshot("create", "two and more"))
    case = Case((Layer(4096, cluster_size=512, operations=operations),))
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        QemuTools.find().make(case, tmp_path / name)
        found.append((tmp_path / name / case.image).read_bytes())
    assert found[0] != found[1]  # QEMU writes nanoseconds
    (tmp_path / "c").write_bytes(with_one_date(found[0]))
    assert with_one_date(found[0]) == with_one_date(found[1])
    with qcow2crypt.open(tmp_path / "c") as image:
        dates = [(kept.name, kept.date_seconds) for kept in image.snapshots()]
    assert dates == [("one", DATE), ("two and more", DATE)]


@pytest.mark.parametrize("data", [b"", b"raw", b"QFI\xfb\0\0\0\1" + bytes(40)])
def test_what_has_no_dates_stays_as_it_is(data: bytes) -> None:
    assert with_one_date(data) == data
