"""New, empty images."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from support.refcounts import problems

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    EngineUnavailableError,
    Qcow2CryptError,
    SecretError,
    SecretRequiredError,
    TargetError,
)
from qcow2crypt.image.qcow2.options import Qcow2Options

AES = Qcow2Options(encryption="aes")


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65536, 2**30, 2**40, 2**45])
@pytest.mark.parametrize("options", [None, AES, Qcow2Options(version=2, cluster_size=2 << 20)])
def test_an_empty_disk(size: int, options: Qcow2Options | None, tmp_path: Path) -> None:
    path = tmp_path / "new"
    secret = "x" if options is AES else None
    qcow2crypt.create(path, size, secret=secret, options=options)
    if size <= 2**30:
        assert problems(path.read_bytes()) == []
    with qcow2crypt.open(path, secret=secret) as image:
        assert image.size == -(-size // 512) * 512
        assert sum(extent.length for extent in image.extents()) == image.size
        assert all(extent.reads_as_zero for extent in image.extents())
        assert not any(image.pread(512, max(0, image.size - 512)))


@pytest.mark.parametrize("size", [0, 1, 512, 2**40])
def test_an_empty_raw_disk_is_a_hole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "new"
    qcow2crypt.create(path, size, format="raw")
    status = path.stat()
    assert status.st_size == -(-size // 512) * 512
    assert status.st_blocks == 0


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"size": -1}, ArgumentError, "an image size is 0 to"),
        ({"size": 2**63}, ArgumentError, "an image size is 0 to"),
        ({"size": 2**63 - 512}, ArgumentError, "too large for clusters"),
        ({"size": 2**51 + 1}, ArgumentError, f"the limit is {2**51}; use larger clusters"),
        ({"format": "vmdk"}, ArgumentError, "'vmdk' is not one of raw, qcow2"),
        ({"format": "luks"}, ArgumentError, "not one of raw, qcow2"),
        ({"format": "raw", "options": AES, "secret": "x"}, ArgumentError, "target format is raw"),
        ({"secret": "topsecret"}, ArgumentError, "but not how to encrypt it"),
        ({"secret": "topsecret", "options": Qcow2Options()}, ArgumentError, "not how to encrypt"),
        ({"secret": "topsecret", "format": "raw"}, ArgumentError, "not how to encrypt it"),
        ({"options": AES}, SecretRequiredError, "a passphrase is needed"),
        ({"options": AES, "secret": 7}, SecretError, "must be str or bytes"),
        ({"options": AES, "secret": "topsecret\ud800"}, SecretError, "lone surrogates"),
        ({"options": AES, "secret": "x", "engine": "none"}, EngineUnavailableError, "'none'"),
    ],
)
def test_what_cannot_be_made_leaves_no_trace(
    arguments: dict[str, Any], error: type[Qcow2CryptError], says: str, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    for path in (tmp_path / "new", old):
        with pytest.raises(error) as caught:
            qcow2crypt.create(path, **{"size": 1 << 20, **arguments})
        assert says in str(caught.value)
        assert "topsecret" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert old.read_bytes() == b"old"


def test_a_raw_disk_that_no_file_system_can_hold(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot set the size of '.*': .*as it was before"):
        qcow2crypt.create(tmp_path / "new", 2**63 - 512, format="raw")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"old" * 1000)
    path.chmod(0o640)
    qcow2crypt.create(path, 512)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes()[:4] == b"QFI\xfb"


@pytest.mark.parametrize("secret", ["", b"", b"\xff\x00", "größe", "x" * 100, lambda: "asked"])
def test_every_passphrase_opens_what_it_made(secret: Any, tmp_path: Path) -> None:
    path, source = tmp_path / "image", tmp_path / "source"
    source.write_bytes(b"data" * 128)
    qcow2crypt.convert(
        source, path, source_format="raw", target_format="qcow2", target_secret=secret, options=AES
    )
    with qcow2crypt.open(path, secret=secret) as image:
        assert image.readall() == b"data" * 128


def test_nothing_is_made_for_what_is_no_target(tmp_path: Path) -> None:
    for target in (tmp_path, Path("/dev/null"), tmp_path / "no" / "such"):
        with pytest.raises(TargetError):
            qcow2crypt.create(target, 512)
    assert list(tmp_path.iterdir()) == []
