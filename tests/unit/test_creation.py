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
    FormatError,
    Qcow2CryptError,
    SecretError,
    SecretRequiredError,
    SourceError,
    TargetError,
)
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.rawoptions import RawOptions

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


def backed(name: str, image_format: str | None = "raw", **more: Any) -> Qcow2Options:
    return Qcow2Options(backing_file=name, backing_format=image_format, **more)


def test_the_size_is_that_of_the_backing_file(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"x" * 1000)
    qcow2crypt.create(tmp_path / "one", options=backed("base"))
    qcow2crypt.create(tmp_path / "two", options=backed("one", "qcow2", extended_l2=True))
    qcow2crypt.create(tmp_path / "long", 4096, options=backed("two", "qcow2"))
    qcow2crypt.create(tmp_path / "aes", options=AES, size=5000, secret="x")
    qcow2crypt.create(tmp_path / "over", options=backed("aes", "qcow2"))  # no passphrase asked
    with qcow2crypt.open(tmp_path / "two") as image:
        assert image.readall() == b"x" * 1000 + bytes(24)
    with qcow2crypt.open(tmp_path / "long") as image:
        assert image.readall() == b"x" * 1000 + bytes(3096)
    with qcow2crypt.open(tmp_path / "over", secrets={1: "x"}) as image:
        assert image.readall() == bytes(5120)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (backed("missing"), SourceError, "cannot open .*missing"),
        (backed("base", None), ArgumentError, "given without its format"),
        (backed("base", "qcow2"), FormatError, "not a qcow2 image"),
        (backed("base", "vmdk"), ArgumentError, "'vmdk' is not one of"),
        (backed("new"), ArgumentError, "its own backing file"),
        (backed("nbd:host:1"), ArgumentError, "only local files"),
        (backed("b" * 400, cluster_size=512), SourceError, "cannot open"),
    ],
)
def test_backing_files_that_cannot_be(
    options: Qcow2Options, error: type[Qcow2CryptError], says: str, tmp_path: Path
) -> None:
    (tmp_path / "base").write_bytes(b"x" * 1000)
    with pytest.raises(error, match=says):
        qcow2crypt.create(tmp_path / "new", options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_backing_file_that_is_not_there_yet(tmp_path: Path) -> None:
    options = backed("later")
    with pytest.raises(ArgumentError, match="a new image needs a size"):
        qcow2crypt.create(tmp_path / "new", options=options, open_backing=False)
    qcow2crypt.create(tmp_path / "new", 512, options=options, open_backing=False)
    (tmp_path / "later").write_bytes(b"x" * 512)
    with qcow2crypt.open(tmp_path / "new") as image:
        assert image.readall() == b"x" * 512


def test_names_that_do_not_fit_into_the_first_cluster(tmp_path: Path) -> None:
    options = backed("b" * 400, cluster_size=512)
    with pytest.raises(ArgumentError, match="header and names take 536 bytes of 512"):
        qcow2crypt.create(tmp_path / "new", 512, options=options, open_backing=False)
    assert list(tmp_path.iterdir()) == []


def test_a_data_file_comes_with_its_image_or_not_at_all(tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = Qcow2Options(data_file=str(data), preallocation="falloc")
    data.write_bytes(b"old")
    with pytest.raises(ArgumentError, match="too large for clusters"):
        qcow2crypt.create(tmp_path / "image", 2**60, options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert data.read_bytes() == b"old"
    qcow2crypt.create(tmp_path / "image", 100_000, options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "image"]
    assert data.stat().st_size == 131072
    assert data.stat().st_blocks * 512 >= 100_000
    with qcow2crypt.open(tmp_path / "image") as image:
        assert not any(image.readall())


@pytest.mark.parametrize("name", ["nbd:host:1", "json:{}"])
def test_a_data_file_is_a_local_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="only a local file can be a new data file"):
        qcow2crypt.create(tmp_path / "image", 512, options=Qcow2Options(data_file=name))
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_not_its_own_data_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with pytest.raises(TargetError, match="its own data file"):
        qcow2crypt.create(path, 512, options=Qcow2Options(data_file=str(path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["falloc", "full"])
def test_raw_disks_with_all_their_space(mode: Any, tmp_path: Path) -> None:
    path = tmp_path / "raw"
    qcow2crypt.create(path, 100_001, format="raw", options=RawOptions(preallocation=mode))
    status = path.stat()
    assert status.st_size == 100_352
    assert status.st_blocks * 512 >= 100_352
    assert not any(path.read_bytes())
    with pytest.raises(ArgumentError, match="options for raw were given"):
        qcow2crypt.create(path, 512, options=RawOptions())


@pytest.mark.parametrize("mode", ["metadata", "falloc", "full"])
@pytest.mark.parametrize("version", [2, 3])
def test_an_encrypted_preallocated_disk_reads_as_zeros(
    version: Any, mode: Any, tmp_path: Path
) -> None:
    if version == 2 and mode != "full":
        return  # refused: see test_options
    path = tmp_path / "image"
    options = Qcow2Options(version=version, encryption="aes", preallocation=mode, cluster_size=512)
    qcow2crypt.create(path, 100_000, options=options, secret="x")
    assert problems(path.read_bytes()) == []
    with qcow2crypt.open(path, "x") as image:
        assert not any(image.readall())
        assert all(extent.host_offset is not None for extent in image.extents())
        kinds = {extent.kind for extent in image.extents()}
    assert kinds == {ExtentKind.DATA if version == 2 else ExtentKind.ZERO}


def test_the_data_file_replaces_nothing_that_is_read(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"x" * 1000)
    with pytest.raises(ArgumentError, match="the backing file cannot be the data file"):
        qcow2crypt.create(tmp_path / "new", options=backed("base", data_file=str(base)))
    with pytest.raises(TargetError, match="source and target are the same file"):
        qcow2crypt.convert(
            base,
            tmp_path / "new",
            source_format="raw",
            target_format="qcow2",
            options=Qcow2Options(data_file=str(base)),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert base.read_bytes() == b"x" * 1000
