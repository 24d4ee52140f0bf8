"""resize, commit, rebase and amend through the library, without QEMU: the disk stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    BackingChainError,
    ReadOnlyError,
    TargetError,
    UnsupportedFeatureError,
)

SIZE = 256 << 10


def make(path: Path, secret: str | None, content: dict[int, bytes], **over: str) -> None:
    """A new image with ``content`` by guest offset; ``over`` is what it lies over."""
    encryption = {"encryption": "aes"} if secret else {}
    options = qcow2crypt.Qcow2Options(cluster_size=4096, **encryption, **over)  # type: ignore[arg-type]
    qcow2crypt.create(path, SIZE, secret=secret, options=options)
    with qcow2crypt.open(path, secret, "r+", secrets={1: "base"}) as image:
        for offset, data in content.items():
            image.pwrite(data, offset)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """An overlay and its base, both AES, with different passphrases."""
    make(tmp_path / "base", "base", {0: b"base" * 8000, 100_000: b"low" * 9000})
    backing = {"backing_file": "base", "backing_format": "qcow2"}
    make(tmp_path / "top", "top", {3: b"top" * 5000, 200_000: b"high" * 100}, **backing)
    return tmp_path


def read(path: Path, secret: str | None, base: str | None = "base") -> bytes:
    with qcow2crypt.open(path, secret, secrets={1: base}) as image:
        return image.readall()


def test_commit_encrypts_anew(chain: Path) -> None:
    before = read(chain / "top", "top")
    steps: list[int] = []
    qcow2crypt.commit(
        chain / "top", "top", secrets={1: "base"}, progress=lambda done, _size: steps.append(done)
    )
    assert read(chain / "base", "base", None) == before
    assert read(chain / "top", "top") == before
    assert steps == sorted(steps)
    assert steps[-1] == SIZE
    with qcow2crypt.open(chain / "top", "top", secrets={1: "base"}) as image:
        assert all(one.kind is qcow2crypt.ExtentKind.UNALLOCATED for one in image.own_extents())


def test_commit_that_keeps_the_overlay(chain: Path) -> None:
    stored = (chain / "top").read_bytes()
    qcow2crypt.commit(chain / "top", "top", secrets={1: "base"}, keep=True)
    assert (chain / "top").read_bytes() == stored


def test_commit_without_a_base(chain: Path) -> None:
    with pytest.raises(BackingChainError, match="no backing file"):
        qcow2crypt.commit(chain / "base", "base")
    with pytest.raises(BackingChainError, match="'nothing' is not in the chain"):
        qcow2crypt.commit(chain / "top", "top", secrets={1: "base"}, base="nothing")


@pytest.mark.parametrize("alone", [False, True])
def test_rebase(chain: Path, alone: bool) -> None:
    before = read(chain / "top", "top")
    make(chain / "new", "new", {0: b"base" * 8000, 90_000: b"other" * 5000})
    with qcow2crypt.open(chain / "top", "top", "r+", secrets={1: "base"}) as image:
        new = None if alone else qcow2crypt.open(chain / "new", "new")
        qcow2crypt.rebase(
            image, new, name=None if alone else "new", backing_format=None if alone else "qcow2"
        )
        assert image.backing is new
        assert image.pread(SIZE, 0) == before
    assert read(chain / "top", "top", "new") == before
    found = qcow2crypt.info(chain / "top")
    assert (found.backing_file, found.backing_format) == (
        (None, None) if alone else ("new", "qcow2")
    )


def test_rebase_of_the_name_alone(chain: Path) -> None:
    qcow2crypt.set_backing(chain / "top", "elsewhere/base.vmdk", "vmdk")
    found = qcow2crypt.info(chain / "top")
    assert (found.backing_file, found.backing_format) == ("elsewhere/base.vmdk", "vmdk")
    with pytest.raises(ArgumentError, match="format"):
        qcow2crypt.set_backing(chain / "top", "base", None)
    with pytest.raises(ArgumentError, match="do not fit"):
        qcow2crypt.set_backing(chain / "top", "x" * 1024, "raw")
    (chain / "raw").write_bytes(bytes(512))
    with pytest.raises(UnsupportedFeatureError, match="raw"):
        qcow2crypt.set_backing(chain / "raw", "base", "raw")


@pytest.mark.parametrize("name", ["top", "base"])
def test_down_to_version_2_and_up_again(chain: Path, name: str) -> None:
    with qcow2crypt.open(chain / name, name, "r+", secrets={1: "base"}) as image:
        image.write_zeroes(0, 20_000)
        image.write_zeroes(102_400, 8192, unmap=True)
        before = image.pread(SIZE, 0)
        qcow2crypt.amend(image, version=2)
        assert image.pread(SIZE, 0) == before
    assert (chain / name).read_bytes()[7] == 2
    assert read(chain / name, name) == before
    assert qcow2crypt.check(chain / name).status == 0
    with qcow2crypt.open(chain / name, name, "r+", secrets={1: "base"}) as image:
        with pytest.raises(ArgumentError, match="version 3"):
            qcow2crypt.amend(image, refcount_bits=8)
        qcow2crypt.amend(image, version=3, refcount_bits=2, lazy_refcounts=True)
        image.pwrite(b"new", 0)
    assert qcow2crypt.check(chain / name).status == 0
    assert read(chain / name, name)[3:] == before[3:]


def test_a_width_that_cannot_count_the_snapshots(tmp_path: Path) -> None:
    make(tmp_path / "a", None, {0: b"data"})
    with qcow2crypt.open(tmp_path / "a", mode="r+") as image:
        image.create_snapshot("one")
        with pytest.raises(TargetError, match="refcount of 1 bits"):
            qcow2crypt.amend(image, refcount_bits=1)
        with pytest.raises(ArgumentError, match="not 3"):
            qcow2crypt.amend(image, refcount_bits=3)
        assert image.pread(4, 0) == b"data"
    assert qcow2crypt.check(tmp_path / "a").status == 0


@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
def test_resize(chain: Path, mode: str) -> None:
    before = read(chain / "top", "top")
    with qcow2crypt.open(chain / "top", "top", "r+", secrets={1: "base"}) as image:
        qcow2crypt.resize(image, 2 * SIZE, preallocation=mode)  # type: ignore[arg-type]
        assert image.pread(2 * SIZE, 0) == before + bytes(SIZE)
    assert read(chain / "top", "top") == before + bytes(SIZE)
    assert qcow2crypt.check(chain / "top").status == 0


def test_what_cannot_be_resized(chain: Path) -> None:
    with qcow2crypt.open(chain / "base", "base", "r+") as image:
        with pytest.raises(ArgumentError, match="grow"):
            qcow2crypt.resize(image, SIZE, preallocation="full")
        with pytest.raises(ArgumentError, match="not off"):
            qcow2crypt.resize(image, 2 * SIZE, preallocation="some")  # type: ignore[arg-type]
    with qcow2crypt.open(chain / "base", "base") as image:
        with pytest.raises(ReadOnlyError):
            qcow2crypt.resize(image, 2 * SIZE)
        with pytest.raises(UnsupportedFeatureError):
            qcow2crypt.amend(image, version=2)
        with pytest.raises(UnsupportedFeatureError):
            qcow2crypt.rebase(image, None, name=None, backing_format=None)
