"""From one image to another: every direction, holes, progress, errors and bounded memory.

Whether the files are those that qemu-img makes is for the differential tests.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
from support.privileges import nobody
from support.refcounts import problems

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    HeaderError,
    Qcow2CryptError,
    SecretRequiredError,
    SourceError,
    TargetError,
    UnsupportedFeatureError,
)
from qcow2crypt.image.base import ExtentKind
from qcow2crypt.image.qcow2.options import Qcow2Options

MIB = 1 << 20
AES = Qcow2Options(encryption="aes", cluster_size=4096)
OLD, NEW = "the old passphrase", "the new one"

# How a kind of image is opened or made: format, options, passphrase.
KINDS: dict[str, tuple[Any, Qcow2Options | None]] = {
    "raw": ("raw", None),
    "plain": ("qcow2", Qcow2Options(cluster_size=65536)),
    "plain v2": ("qcow2", Qcow2Options(cluster_size=512, version=2)),
    "aes": ("qcow2", AES),
    "aes v2": ("qcow2", Qcow2Options(encryption="aes", cluster_size=512, version=2)),
}


def content(pattern: str) -> bytes:
    """A disk of units of 16 KiB: x is data, a dot is zeros."""
    noise = random.Random(pattern)
    return b"".join(noise.randbytes(16384) if c == "x" else bytes(16384) for c in pattern)


DISK = content("x..xx....x.") + b"tail" * 128


def secret_of(kind: str, passphrase: str) -> str | None:
    return passphrase if kind.startswith("aes") else None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(DISK)
    return path


def make(path: Path, kind: str, disk: bytes, passphrase: str = OLD) -> Path:
    """An image of a kind that holds ``disk``."""
    format_name, options = KINDS[kind]
    qcow2crypt.convert(
        io.BytesIO(disk),
        path,
        source_format="raw",
        target_format=format_name,
        target_secret=secret_of(kind, passphrase),
        options=options,
    )
    return path


def disk_of(path: Path, kind: str, passphrase: str = OLD) -> bytes:
    with qcow2crypt.open(path, secret=secret_of(kind, passphrase), format=KINDS[kind][0]) as image:
        return image.readall()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS, KINDS)))
def test_every_direction(first: str, second: str, tmp_path: Path) -> None:
    old = make(tmp_path / "old", first, DISK)
    before = old.read_bytes()
    format_name, options = KINDS[second]
    result = qcow2crypt.convert(
        old,
        tmp_path / "new",
        source_format=KINDS[first][0],
        target_format=format_name,
        secret=secret_of(first, OLD),
        target_secret=secret_of(second, NEW),
        options=options,
    )
    assert disk_of(tmp_path / "new", second, NEW) == DISK
    assert old.read_bytes() == before
    assert result.size == len(DISK)
    assert sum(c == "x" for c in "x..xx....x.") * 16384 < result.stored <= len(DISK)
    if format_name == "qcow2":
        assert problems((tmp_path / "new").read_bytes()) == []
    if second.startswith("aes"):
        assert disk_of(tmp_path / "new", second, OLD) != DISK


@pytest.mark.parametrize("name", golden.READABLE)
def test_golden_images_to_raw_and_to_a_new_passphrase(name: str, tmp_path: Path) -> None:
    image = golden.load(name)
    raw, rekeyed = tmp_path / "raw", tmp_path / "rekeyed"
    qcow2crypt.convert(image.path, raw, secret=image.secret)
    assert golden.sha256(raw.read_bytes()) == image.manifest["guest_sha256"]
    qcow2crypt.convert(
        image.path,
        rekeyed,
        target_format="qcow2",
        secret=image.secret,
        target_secret=NEW,
        options=AES,
    )
    assert golden.sha256(disk_of(rekeyed, "aes", NEW)) == image.manifest["guest_sha256"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4095, 4097, 70000])
@pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
def test_odd_sizes(size: int, kind: str, tmp_path: Path) -> None:
    disk = random.Random(size).randbytes(size)
    path = make(tmp_path / "image", kind, disk)
    whole = disk.ljust(-(-size // 512) * 512, b"\0")
    assert disk_of(path, kind) == whole
    qcow2crypt.convert(
        path, tmp_path / "back", secret=secret_of(kind, OLD), source_format=KINDS[kind][0]
    )
    assert (tmp_path / "back").read_bytes() == whole


class TestZeros:
    def test_zeros_become_holes(self, source: Path, tmp_path: Path) -> None:
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.write(os.urandom(65536))
            file.seek(8 * MIB)
            file.write(bytes(4 * MIB))  # stored zeros
            file.write(os.urandom(65536))
            file.truncate(64 * MIB)
        result = qcow2crypt.convert(big, tmp_path / "out", source_format="raw")
        assert result.stored == 2 * 65536
        status = (tmp_path / "out").stat()
        assert status.st_size == 64 * MIB
        assert status.st_blocks * 512 < MIB

    def test_zeros_are_not_allocated_in_qcow2(self, source: Path, tmp_path: Path) -> None:
        path = make(tmp_path / "image", "aes", DISK)
        with qcow2crypt.open(path, secret=OLD) as image:
            holes = [extent for extent in image.extents() if extent.reads_as_zero]
            assert all(extent.kind is ExtentKind.UNALLOCATED for extent in holes)
            assert sum(extent.length for extent in holes) == 16384 * 7

    @pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
    def test_sparse_size_0_stores_all(self, kind: str, source: Path, tmp_path: Path) -> None:
        format_name, options = KINDS[kind]
        result = qcow2crypt.convert(
            source,
            tmp_path / "out",
            source_format="raw",
            target_format=format_name,
            target_secret=secret_of(kind, NEW),
            options=options,
            sparse_size=0,
        )
        assert result.stored == len(DISK)
        with qcow2crypt.open(
            tmp_path / "out", secret=secret_of(kind, NEW), format=format_name
        ) as image:
            assert {extent.kind for extent in image.extents()} == {ExtentKind.DATA}
            assert image.readall() == DISK

    def test_sparse_size_0_stores_what_the_source_does_not(self, tmp_path: Path) -> None:
        qcow2crypt.create(tmp_path / "empty", 3 * MIB)
        result = qcow2crypt.convert(tmp_path / "empty", tmp_path / "out", sparse_size=0)
        assert result.stored == 3 * MIB
        assert (tmp_path / "out").stat().st_blocks * 512 >= 3 * MIB

    def test_a_huge_sparse_size(self, source: Path, tmp_path: Path) -> None:
        qcow2crypt.convert(source, tmp_path / "out", source_format="raw", sparse_size=2**50)
        assert (tmp_path / "out").read_bytes() == DISK

    @pytest.mark.parametrize("size", [-512, -1, 1, 511, 513])
    def test_what_is_no_sparse_size(self, size: int, source: Path, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"the sparse size is a multiple of 512"):
            qcow2crypt.convert(source, tmp_path / "out", sparse_size=size)


class TestProgress:
    @pytest.mark.parametrize("pattern", ["", "x", ".", "x" * 300, "x.." * 100, "." * 300])
    @pytest.mark.parametrize("kind", ["raw", "aes"])
    def test_it_never_goes_back_and_reaches_the_end(
        self, pattern: str, kind: str, tmp_path: Path
    ) -> None:
        path = make(tmp_path / "image", kind, content(pattern))
        steps: list[tuple[int, int]] = []
        qcow2crypt.convert(
            path,
            tmp_path / "out",
            source_format=KINDS[kind][0],
            secret=secret_of(kind, OLD),
            progress=lambda done, total: steps.append((done, total)),
        )
        assert {total for _, total in steps} == {len(pattern) * 16384}
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]

    def test_into_an_existing_image_it_counts_the_whole_target(
        self, source: Path, tmp_path: Path
    ) -> None:
        target = make(tmp_path / "image", "plain", bytes(MIB))
        steps: list[tuple[int, int]] = []
        qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format="qcow2",
            into_existing=True,
            progress=lambda done, total: steps.append((done, total)),
        )
        assert {total for _, total in steps} == {MIB}
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1] == (MIB, MIB)

    def test_what_it_raises_stops_the_work(self, source: Path, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            if done > total // 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            qcow2crypt.convert(source, tmp_path / "out", source_format="raw", progress=stop)
        assert [path.name for path in tmp_path.iterdir()] == ["source.raw"]


class TestIntoExisting:
    def convert(self, source: Path, target: Path, kind: str = "aes", **more: Any) -> Any:
        arguments: dict[str, Any] = {
            "source_format": "raw",
            "target_format": KINDS[kind][0],
            "target_secret": secret_of(kind, NEW),
            "into_existing": True,
        }
        return qcow2crypt.convert(source, target, **{**arguments, **more})

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_lies_behind_a_smaller_source_stays(
        self, kind: str, source: Path, tmp_path: Path
    ) -> None:
        old = content("xx.x" * 5) + b"end" * 512
        target = make(tmp_path / "target", kind, old, NEW)
        before = qcow2crypt.info(target, format=KINDS[kind][0])
        self.convert(source, target, kind)
        assert disk_of(target, kind, NEW) == DISK + old[len(DISK) :]
        after = qcow2crypt.info(target, format=KINDS[kind][0])
        assert (after.cluster_size, after.virtual_size) == (before.cluster_size, before.virtual_size)
        assert after.specific == before.specific

    def test_the_same_size(self, source: Path, tmp_path: Path) -> None:
        target = make(tmp_path / "target", "aes", b"\xff" * len(DISK), NEW)
        self.convert(source, target)
        assert disk_of(target, "aes", NEW) == DISK

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_source_that_is_too_large(self, kind: str, source: Path, tmp_path: Path) -> None:
        target = make(tmp_path / "target", kind, DISK[:-512], NEW)
        before = target.read_bytes()
        with pytest.raises(TargetError, match=r"is too small: its disk has \d+ bytes, the source"):
            self.convert(source, target, kind)
        assert target.read_bytes() == before

    def test_a_passphrase_that_the_target_does_not_need(self, source: Path, tmp_path: Path) -> None:
        target = make(tmp_path / "target", "plain", bytes(MIB))
        self.convert(source, target, "plain", target_secret="unused")
        assert disk_of(target, "plain") == DISK.ljust(MIB, b"\0")

    @pytest.mark.parametrize(
        ("more", "error", "says"),
        [
            ({"options": Qcow2Options()}, ArgumentError, "keeps its own options"),
            ({"target_secret": None}, SecretRequiredError, "a passphrase is needed"),
            ({"target_format": "vmdk"}, ArgumentError, "'vmdk' is not one of"),
        ],
    )
    def test_wrong_combinations(
        self, more: dict[str, Any], error: type[Exception], says: str, source: Path, tmp_path: Path
    ) -> None:
        target = make(tmp_path / "target", "aes", bytes(MIB), NEW)
        before = target.read_bytes()
        with pytest.raises(error, match=says):
            self.convert(source, target, **more)
        assert target.read_bytes() == before

    def test_a_target_that_does_not_exist(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"No such file"):
            self.convert(source, tmp_path / "missing")

    def test_a_target_of_another_format(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "target").write_bytes(bytes(MIB))
        with pytest.raises(HeaderError, match=r"this is not a qcow2 image"):
            self.convert(source, tmp_path / "target")

    def test_what_would_be_lost_is_refused(self, tmp_path: Path) -> None:
        image = golden.load("aes-c512-snapshot.qcow2")
        target = tmp_path / "target"
        target.write_bytes(image.data)
        (tmp_path / "small").write_bytes(b"x" * 512)
        with pytest.raises(UnsupportedFeatureError, match=r"an image that has snapshots"):
            self.convert(tmp_path / "small", target, target_secret=image.secret)
        assert target.read_bytes() == image.data


class TestTheSourceIsSafe:
    @pytest.mark.parametrize(
        "link", [lambda path: path, Path.resolve, "symlink", "hardlink", "relative", "dotted"]
    )
    def test_source_and_target_must_differ(
        self, link: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target: Any = tmp_path / "link"
        if link == "symlink":
            target.symlink_to(source)
        elif link == "hardlink":
            target.hardlink_to(source)
        elif link == "relative":
            monkeypatch.chdir(tmp_path)
            target = source.name
        elif link == "dotted":
            target = f"{tmp_path}/./{source.name}"
        else:
            target = link(source)
        for origin in (source, source.open("rb")):
            with pytest.raises(TargetError, match=r"source and target are the same file"):
                qcow2crypt.convert(origin, target, source_format="raw")
            if isinstance(origin, io.BufferedReader):
                origin.close()
        assert source.read_bytes() == DISK
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_it_is_opened_for_reading_only(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        real = os.open

        def spy(name: Any, flags: int, *more: Any, **keywords: Any) -> int:
            if Path(name) == source:
                asked.append(flags & (os.O_ACCMODE | os.O_TRUNC | os.O_CREAT))
            return real(name, flags, *more, **keywords)

        monkeypatch.setattr(os, "open", spy)
        qcow2crypt.convert(source, tmp_path / "out", source_format="raw")
        assert asked == [os.O_RDONLY]

    def test_a_source_without_write_permission_will_do(self, source: Path, tmp_path: Path) -> None:
        source.chmod(0o400)
        before = source.stat()
        qcow2crypt.convert(source, tmp_path / "out", source_format="raw")
        after = source.stat()
        assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)

    def test_a_source_that_cannot_be_read(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"old")
        source.chmod(0)
        with nobody(), pytest.raises(SourceError, match=r"Permission denied"):
            qcow2crypt.convert(source, tmp_path / "out", source_format="raw")
        assert (tmp_path / "out").read_bytes() == b"old"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"target_secret": NEW}, "not how to encrypt it"),
            ({"target_format": "qcow2", "target_secret": NEW}, "not how to encrypt it"),
            ({"options": Qcow2Options()}, "the target format is raw"),
            ({"options": AES, "target_secret": NEW}, "the target format is raw"),
            ({"target_format": "vdi"}, "'vdi' is not one of raw, qcow2"),
            ({"source_format": "vdi"}, "'vdi' is not one of qcow2, raw"),
            ({"target_format": "qcow2", "options": AES}, "a passphrase is needed"),
            ({"target_format": "qcow2", "engine": "x", "options": AES, "target_secret": NEW}, "'x'"),
        ],
    )
    def test_wrong_combinations_leave_no_trace(
        self, arguments: dict[str, Any], says: str, source: Path, tmp_path: Path
    ) -> None:
        old = tmp_path / "old"
        old.write_bytes(b"old")
        for target in (old, tmp_path / "new"):
            with pytest.raises(Qcow2CryptError) as caught:
                qcow2crypt.convert(source, target, **{"source_format": "raw", **arguments})
            assert says in str(caught.value)
            assert NEW not in str(caught.value)
        assert old.read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "source.raw"]

    def test_a_source_that_is_encrypted_needs_its_passphrase(self, tmp_path: Path) -> None:
        path = make(tmp_path / "image", "aes", DISK)
        with pytest.raises(SecretRequiredError):
            qcow2crypt.convert(path, tmp_path / "out", target_secret=NEW)

    @pytest.mark.parametrize("name", golden.UNREADABLE)
    def test_a_source_that_is_not_read_yet(self, name: str, tmp_path: Path) -> None:
        image = golden.load(name)
        with pytest.raises(UnsupportedFeatureError):
            qcow2crypt.convert(image.path, tmp_path / "out", secret=image.secret)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("after", [0, 1, 7, 20])
    def test_a_source_that_breaks_in_the_middle(self, after: int, tmp_path: Path) -> None:
        class Breaks(io.BytesIO):
            reads = 0

            def readinto(self, buffer: Any, /) -> int:
                self.reads += 1
                if self.reads > after:
                    raise OSError(5, "Input/output error")
                return super().readinto(memoryview(buffer)[:4096])

        (tmp_path / "out").write_bytes(b"old")
        with pytest.raises(SourceError, match="Input/output error"):
            qcow2crypt.convert(Breaks(DISK), tmp_path / "out", source_format="raw")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out").read_bytes() == b"old"

    def test_a_damaged_table_leaves_no_trace(self, tmp_path: Path) -> None:
        path = make(tmp_path / "image", "aes", DISK)
        data = bytearray(path.read_bytes())
        l1 = int.from_bytes(data[40:48], "big")
        data[l1 + 6 : l1 + 8] = b"\x02\x00"
        path.write_bytes(data)
        with pytest.raises(Qcow2CryptError, match="L1 entry 0"):
            qcow2crypt.convert(path, tmp_path / "out", secret=OLD)
        assert [path.name for path in tmp_path.iterdir()] == ["image"]


def peak_of(work: Callable[[], Any]) -> int:
    """The most memory, in bytes, that Python objects took while ``work`` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["raw", "plain", "aes"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    """1 TiB of disk, a few MiB of data here and there."""
    source, target, back = tmp_path / "source", tmp_path / "target", tmp_path / "back"
    places = (0, 1 << 30, (1 << 39) + 512, (1 << 40) - MIB)
    with source.open("wb") as file:
        file.truncate(1 << 40)
        for place in places:
            file.seek(place)
            file.write(b"\xa5" * MIB)
    format_name = KINDS[kind][0]
    options = None if kind == "raw" else Qcow2Options(encryption="aes" if kind == "aes" else None)
    there = peak_of(
        lambda: qcow2crypt.convert(
            source,
            target,
            source_format="raw",
            target_format=format_name,
            target_secret=secret_of(kind, NEW),
            options=options,
        )
    )
    assert there < 32 * MIB
    assert target.stat().st_blocks * 512 < 16 * MIB
    if kind == "raw":
        return
    assert peak_of(lambda: qcow2crypt.convert(target, back, secret=secret_of(kind, NEW))) < 32 * MIB
    with back.open("rb") as file:
        for place in places:
            file.seek(place)
            assert file.read(MIB) == b"\xa5" * MIB
    assert back.stat().st_size == 1 << 40
