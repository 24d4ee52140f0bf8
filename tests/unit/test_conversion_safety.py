"""Conversions that must not be: the source stays as it is, and so does an old target.

And conversions into an image that exists, which keeps what it is.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import golden
import pytest
from support.kinds import AES, DISK, KINDS, MIB, NEW, OLD, content, disk_of, make, secret_of
from support.privileges import nobody

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
from qcow2crypt.image.qcow2.options import Qcow2Options


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(DISK)
    return path


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
        assert (after.cluster_size, after.virtual_size) == (
            before.cluster_size,
            before.virtual_size,
        )
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

    def test_snapshots_are_kept(self, tmp_path: Path) -> None:
        image = golden.load("aes-c512-snapshot.qcow2")
        target = tmp_path / "target"
        target.write_bytes(image.data)
        with qcow2crypt.open(target, image.secret) as disk:
            old = disk.readall()
            ids = [one.id for one in disk.snapshots()]
            views = [disk.snapshot(one).readall() for one in ids]
        assert ids
        (tmp_path / "small").write_bytes(b"x" * 512)
        self.convert(tmp_path / "small", target, target_secret=image.secret)
        with qcow2crypt.open(target, image.secret) as disk:
            assert disk.readall() == b"x" * 512 + old[512:]
            assert [disk.snapshot(one).readall() for one in ids] == views

    def test_snapshots_are_not_compressed_into(self, tmp_path: Path) -> None:
        image = golden.load("aes-c512-snapshot.qcow2")
        target = tmp_path / "target"
        target.write_bytes(image.data)
        (tmp_path / "small").write_bytes(b"x" * 512)
        with pytest.raises(ArgumentError, match=r"lie in it in clear"):
            self.convert(tmp_path / "small", target, target_secret=image.secret, compress=True)
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
            ({"source_format": "vdi"}, "'vdi' is not one of qcow2, qcow, raw"),
            ({"target_format": "qcow2", "options": AES}, "a passphrase is needed"),
            (
                {"target_format": "qcow2", "engine": "x", "options": AES, "target_secret": NEW},
                "'x'",
            ),
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
