"""Which format is it?"""

from __future__ import annotations

import io
from pathlib import Path

import golden
import pytest

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.names import READABLE
from qcow2crypt.image.probe import probe
from qcow2crypt.testing.damage.tiny import tiny
from qcow2crypt.testing.witness import QemuError, QemuImg

STARTS = {
    b"": "raw",
    b"\0" * 600: "raw",
    b"QFI": "raw",
    b"QFI\xfb": "qcow2",
    b"QFI\xfb\0\0\0\x01": "qcow",
    b"QFI\xfb\0\0\0\x02": "qcow2",
    b"QFI\xfb\0\0\0\x03": "qcow2",
    b"QFI\xfb\0\0\0\x04": "qcow2",
    b"LUKS\xba\xbe\0\1": "luks",
    b"KDMV\x01\0\0\0": "vmdk",
    b"COWD\x01\0\0\0": "vmdk",
    b"# Disk DescriptorFile\nversion=1\n": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vpc",
    b"QED\0": "qed",
    b"WithouFreSpacExt\x02\0\0\0": "parallels",
    b"x" * 64 + b"\x7f\x10\xda\xbe": "vdi",
    b"<<< not a VDI >>>": "raw",
}


def probed(data: bytes) -> str:
    return probe(HostFile(io.BytesIO(data)))


@pytest.mark.parametrize(("start", "name"), STARTS.items())
def test_first_bytes(start: bytes, name: str) -> None:
    assert probed(start) == name
    assert probed(start + bytes(4096)) == name


@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_images(name: str) -> None:
    assert probed(golden.load(name).data) == name.rpartition(".")[2]


@pytest.mark.parametrize("name", golden.NAMES)
def test_qemu_finds_the_same(name: str, qemu_img: QemuImg) -> None:
    image = golden.load(name)
    done = qemu_img.run("info", image.path)
    assert f"file format: {probed(image.data)}\n" in done.stdout


@pytest.mark.parametrize("format_name", ["vmdk", "vhdx", "vpc", "qed", "vdi", "parallels", "raw"])
def test_images_that_qemu_makes(format_name: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    path = tmp_path / "image"
    try:
        qemu_img.run("create", "-q", "-f", format_name, path, "1M")
    except QemuError as error:
        assert "Unknown file format" in error.stderr  # left out when this QEMU was built
        return
    assert probed(path.read_bytes()) == format_name


def test_what_can_be_read_is_what_probing_can_find() -> None:
    assert set(READABLE) <= set(STARTS.values())
    assert probed(tiny().data) in READABLE
