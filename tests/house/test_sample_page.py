"""The sample image of the documents and its page are what the tools make, byte for byte."""

from __future__ import annotations

from pathlib import Path

import make_sample_page as sample
import pytest
from source_tree import ROOT

from qcow2crypt.testing.witness import Disk, QemuImg


def test_the_committed_files_are_what_the_script_makes(tmp_path: Path) -> None:
    sample.make(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["sector-iv.html", "sector-iv.qcow2"]
    for name in names:
        same = (tmp_path / name).read_bytes() == (ROOT / "docs" / name).read_bytes()
        assert same, f"docs/{name} is out of date: run python tools/make_sample_page.py"


def test_qemu_reads_the_sample_image(qemu_img: QemuImg, tmp_path: Path) -> None:
    image = ROOT / "docs" / "sector-iv.qcow2"
    disk = Disk(image, "qcow2", sample.PASSPHRASE)
    assert qemu_img.check(disk)["check-errors"] == 0
    qemu_img.convert(disk, Disk(tmp_path / "raw", "raw"))
    assert (tmp_path / "raw").read_bytes() == sample.disk()


@pytest.mark.parametrize("make", [sample.labelled, sample.same, sample.marked])
def test_its_sectors_are_whole(make: sample.Maker) -> None:
    assert len(make(127)) == 512
