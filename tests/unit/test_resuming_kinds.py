"""Conversions that go on: compressed, over a backing file, and into an image that exists."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.tasks import resuming
from qcow2crypt.tasks.conversion import convert_images
from qcow2crypt.tasks.creation import TargetFormat
from qcow2crypt.tasks.leftover import left_over
from qcow2crypt.tasks.manner import Manner
from qcow2crypt.tasks.refilling import Existing

MIB = 1 << 20
SIZE = 9 * MIB + 1536


class StoppedError(Exception):
    """What ends a conversion here."""


@dataclasses.dataclass
class Kind:
    """One kind of conversion.  ``old`` are the options of a target that exists."""

    options: Qcow2Options | None = None
    compress: bool = False
    sparse: int = 4096
    old: Qcow2Options | None = None
    exists: bool = False
    threads: int = 2
    format: TargetFormat = "qcow2"

    def convert(self, folder: Path, target: Path, *, stop: int | None, resume: bool) -> None:
        def progress(done: int, total: int) -> None:
            if stop is not None and done >= stop:
                raise StoppedError

        options = self.options
        encrypted = (self.old or options or Qcow2Options()).encryption is not None
        with (
            qcow2crypt.open(folder / "one.raw", format="raw") as one,
            qcow2crypt.open(folder / "two.raw", format="raw") as two,
        ):
            over = options is not None and options.backing_file is not None
            convert_images(
                [one] if over else [one, two],
                target,
                target_format=self.format,
                target_secret="key" if encrypted else None,
                options=options,
                compress=self.compress,
                sparse_size=self.sparse,
                existing=Existing() if self.exists else None,
                progress=progress,
                manner=Manner(self.threads),
                resume=resume,
            )

    def make_old(self, folder: Path, path: Path) -> None:
        """The target that exists."""
        if self.exists:
            qcow2crypt.convert(
                folder / "old.raw",
                path,
                source_format="raw",
                target_format=self.format,
                target_secret="key" if self.old and self.old.encryption else None,
                options=self.old,
            )


BASE = {"backing_file": "base.raw", "backing_format": "raw"}
AES = Qcow2Options(encryption="aes", cluster_size=4096)
KINDS = {
    "compressed": Kind(compress=True),
    "compressed, 512": Kind(Qcow2Options(cluster_size=512), compress=True),
    "compressed, all": Kind(Qcow2Options(cluster_size=16384), compress=True, sparse=0),
    "over": Kind(Qcow2Options(**BASE, cluster_size=4096)),  # type: ignore[arg-type]
    "over, AES": Kind(Qcow2Options(**BASE, encryption="aes")),  # type: ignore[arg-type]
    "over, version 2": Kind(Qcow2Options(**BASE, version=2, cluster_size=512)),  # type: ignore[arg-type]
    "over, compressed": Kind(Qcow2Options(**BASE, cluster_size=4096), compress=True),  # type: ignore[arg-type]
    "into raw": Kind(exists=True, format="raw"),
    "into AES": Kind(exists=True, old=AES),
    "into compressed": Kind(exists=True, old=Qcow2Options(cluster_size=4096), compress=True),
    "into 512": Kind(exists=True, old=Qcow2Options(cluster_size=512), threads=1),
}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note what is done after every piece."""
    monkeypatch.setattr(resuming, "INTERVAL", 1)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a disk that differs from it here and there, a second, and an old one."""
    folder = tmp_path_factory.mktemp("disks")
    rng = random.Random(7)
    base = bytearray()
    while len(base) < SIZE:
        size = 512 * rng.choice([1, 7, 8, 64, 700])
        word = rng.randbytes(16)
        base += rng.choice([bytes(size), rng.randbytes(size), (word * size)[:size]])
    del base[SIZE:]
    (folder / "base.raw").write_bytes(base[: 7 * MIB])
    for _ in range(150):
        at = rng.randrange(SIZE // 512) * 512
        length = rng.choice([512, 4096, 200_000])
        base[at : at + length] = rng.choice([bytes(length), rng.randbytes(length)])
    (folder / "one.raw").write_bytes(base[:SIZE])
    (folder / "two.raw").write_bytes(rng.randbytes(MIB) + bytes(MIB) + b"x" * 512)
    (folder / "old.raw").write_bytes(rng.randbytes(14 * MIB))
    return folder


@pytest.fixture
def folder(disks: Path, tmp_path: Path) -> Path:
    shutil.copytree(disks, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_the_same_file(name: str, folder: Path) -> None:
    kind = KINDS[name]
    target, usual = folder / "target", folder / "usual"
    for path in (target, usual):
        kind.make_old(folder, path)
    before = target.read_bytes() if kind.exists else b""
    went_on = 0
    for stop in (2 * MIB, 3 * MIB, 5 * MIB, 7 * MIB, 9 * MIB, 10 * MIB, 13 * MIB):
        try:
            kind.convert(folder, target, stop=stop, resume=True)
        except StoppedError:
            went_on += bool(left_over(target))
            assert (target.read_bytes() if kind.exists else b"") == before
        else:  # the threads were all done before it was told
            break
    assert went_on >= 2
    kind.convert(folder, target, stop=None, resume=True)
    kind.convert(folder, usual, stop=None, resume=False)
    assert target.read_bytes() == usual.read_bytes()
    assert not left_over(target)


@pytest.mark.parametrize("name", ["compressed", "over", "over, compressed", "into AES"])
def test_another_source_is_found(name: str, folder: Path) -> None:
    """Changed in secret: neither size nor time tell."""
    kind = KINDS[name]
    target = folder / "target"
    kind.make_old(folder, target)
    for _ in range(2):
        with contextlib.suppress(StoppedError):
            kind.convert(folder, target, stop=4 * MIB, resume=True)
    path = folder / "one.raw"
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[: 2 * MIB] = random.Random(1).randbytes(2 * MIB)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(TargetError, match="source"):
        kind.convert(folder, target, stop=None, resume=True)


@pytest.mark.parametrize(("name", "file"), [("over", "base.raw"), ("into raw", "target")])
def test_other_files_that_are_read(name: str, file: str, folder: Path) -> None:
    kind = KINDS[name]
    target = folder / "target"
    kind.make_old(folder, target)
    with contextlib.suppress(StoppedError):
        kind.convert(folder, target, stop=4 * MIB, resume=True)
    assert left_over(target)
    os.utime(folder / file, (1, 1))
    with pytest.raises(TargetError, match="files changed"):
        kind.convert(folder, target, stop=None, resume=True)


def test_compressed_or_not(folder: Path) -> None:
    kind = Kind(compress=True)
    with contextlib.suppress(StoppedError):
        kind.convert(folder, folder / "target", stop=4 * MIB, resume=True)
    kind.compress = False
    with pytest.raises(TargetError, match="compression changed"):
        kind.convert(folder, folder / "target", stop=None, resume=True)


def test_an_image_that_has_more_than_a_disk(folder: Path) -> None:
    """A copy of it is changed in place: refused, and nothing is left."""
    target = folder / "target"
    qcow2crypt.create(target, 16 * MIB)
    with qcow2crypt.open(target, mode="r+") as image:
        image.create_snapshot("one")
    before = target.read_bytes()
    with pytest.raises(ArgumentError, match="snapshots"):
        Kind(exists=True).convert(folder, target, stop=None, resume=True)
    assert target.read_bytes() == before
    assert not left_over(target)
