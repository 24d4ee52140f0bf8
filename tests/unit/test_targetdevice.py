"""Block devices as source and target: sizes, zeros over old content, refusals."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commandline import run_program
from support.mounting import loop_device, mounted

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import (
    ArgumentError,
    ImageLockedError,
    TargetError,
    UnsupportedFeatureError,
)
from qcow2crypt.image import locks
from qcow2crypt.testing.witness import QemuImg

MIB = 1 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """8 MiB of old content."""
    file = tmp_path / "device.file"
    file.write_bytes(os.urandom(8 * MIB))
    with loop_device(file) as name:
        yield name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """5 MiB: a hole first, data, zeros in the middle and at the end."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.seek(MIB)
        file.write(os.urandom(MIB) + bytes(MIB + 512) + os.urandom(512 * 3))
        file.truncate(5 * MIB)
    return path


def content(device: Path) -> bytes:
    with device.open("rb") as file:
        return file.read()


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("sparse", [0, 4096])
def test_raw_onto_a_device(into: bool, sparse: int, device: Path, source: Path) -> None:
    old = content(device)
    qcow2crypt.convert(source, device, source_format="raw", sparse_size=sparse, into_existing=into)
    assert content(device) == source.read_bytes() + old[5 * MIB :]


def test_zeros_free_the_space_under_the_device(device: Path, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "device.file"
    before = file.stat().st_blocks
    qcow2crypt.convert(source, device, source_format="raw")
    os.sync()
    assert file.stat().st_blocks <= before - 3 * MIB // 512


def test_zeros_free_the_space_of_an_existing_file(source: Path, tmp_path: Path) -> None:
    """With -n, raw and qcow2: what the source has not stored takes no space in the target."""
    target = tmp_path / "target"
    for format_name in ("raw", "qcow2"):
        target.write_bytes(os.urandom(8 * MIB))
        if format_name == "qcow2":
            full = tmp_path / "full"
            target.rename(full)
            qcow2crypt.convert(full, target, source_format="raw", target_format="qcow2")
        before = target.stat().st_blocks
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format=format_name,
            into_existing=True,
        )
        assert target.stat().st_blocks <= before - 3 * MIB // 512


def test_where_the_device_cannot_make_zeros(
    device: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcow2crypt.targetdevice.punch_hole", lambda *_: False)
    qcow2crypt.convert(source, device, source_format="raw")
    assert content(device)[: 5 * MIB] == source.read_bytes()


@pytest.mark.parametrize("encryption", [None, "aes"])
def test_qcow2_on_a_device(
    encryption: str | None, device: Path, source: Path, tmp_path: Path, qemu_img: QemuImg
) -> None:
    secret = "key" if encryption else None
    options = Qcow2Options(encryption=encryption)  # type: ignore[arg-type]
    usual = tmp_path / "usual.qcow2"
    for target in (device, usual):
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format="qcow2",
            target_secret=secret,
            options=options,
        )
    length = usual.stat().st_size
    with qcow2crypt.open(device, secret, format="qcow2") as image:
        assert image.pread(6 * MIB, 0) == source.read_bytes()
    assert qcow2crypt.check(usual).status == 0
    assert content(device)[:512] == usual.read_bytes()[:512]
    assert length < 8 * MIB
    if not encryption:
        qemu_img.run("compare", "-f", "qcow2", "-F", "raw", device, source)


def test_a_device_as_the_source(device: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    result = qcow2crypt.convert(device, target, source_format="raw", target_format="qcow2")
    assert result.size == 8 * MIB
    with qcow2crypt.open(target) as image:
        assert image.readall() == content(device)


def test_a_small_device_is_not_touched(device: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (9 * MIB))
    old = content(device)
    with pytest.raises(TargetError, match="too small"):
        qcow2crypt.convert(large, device, source_format="raw")
    assert content(device) == old
    with pytest.raises(TargetError, match="no longer what it held"):
        qcow2crypt.convert(large, device, source_format="raw", target_format="qcow2")
    assert not any(content(device)[: 1 << 16])  # the old header is gone, a new one did not come


def test_a_device_in_use(device: Path, source: Path, tmp_path: Path) -> None:
    """Mounted, or open in a program that holds the locks of QEMU."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        locks.acquire(descriptor, "x", locks.lock_bytes(writing=False), frozenset())
        with pytest.raises(ImageLockedError):
            qcow2crypt.convert(source, device, source_format="raw")
    finally:
        os.close(descriptor)
    mkfs = shutil.which("mkfs.ext4") or "/sbin/mkfs.ext4"
    if not Path(mkfs).exists():
        pytest.skip("no mkfs.ext4: a mounted device was not tested")
    subprocess.run([mkfs, "-q", "-F", device], check=True)
    with mounted(tmp_path / "mounted", device), pytest.raises(TargetError, match="mounted"):
        qcow2crypt.convert(source, device, source_format="raw")


def test_what_a_device_cannot_be(device: Path, source: Path, tmp_path: Path) -> None:
    def onto(options: Qcow2Options, *, into: bool = False) -> None:
        qcow2crypt.convert(
            source,
            device,
            source_format="raw",
            target_format="qcow2",
            options=None if into else options,
            into_existing=into,
        )

    old = content(device)
    with pytest.raises(ArgumentError, match="preallocation"):
        onto(Qcow2Options(preallocation="metadata"))
    with pytest.raises(TargetError, match="data file"):
        onto(Qcow2Options(data_file=str(tmp_path / "data")))
    with pytest.raises(UnsupportedFeatureError, match="device"):
        onto(Qcow2Options(), into=True)
    assert content(device) == old


@pytest.mark.parametrize("into", [False, True])
def test_a_raw_device_cannot_have_bitmaps(
    device: Path, source: Path, tmp_path: Path, into: bool
) -> None:
    image, old = tmp_path / "image", content(device)
    qcow2crypt.convert(source, image, source_format="raw", target_format="qcow2")
    with pytest.raises(ArgumentError, match="version 3 can have bitmaps"):
        qcow2crypt.convert(image, device, into_existing=into, bitmaps="all")
    assert content(device) == old


def test_the_command_line(device: Path, source: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    words = ["convert", "-f", "raw", "-O", "qcow2", "--verify"]
    assert run_program(*words, source, device).status == 0
    assert run_program("convert", "-f", "qcow2", device, back).status == 0
    assert back.read_bytes() == source.read_bytes()
    assert run_program("convert", "-n", "-f", "raw", "-", device, stdin=b"").status == 1
    assert run_program("convert", "--verify", "-", device, stdin=b"y" * 1024).status == 0
    assert content(device)[:1024] == b"y" * 1024
