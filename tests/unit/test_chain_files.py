"""External data files, and what is left open after a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.chains import SIZE, fill, open_descriptors, overlay, raw

import qcow2crypt
from qcow2crypt.errors import (
    BackingChainError,
    ExternalReferenceError,
    Qcow2CryptError,
    SourceError,
)

BASE = bytes(range(256)) * (SIZE // 256)


def read(path: Path | str, **how: object) -> bytes:
    with qcow2crypt.open(path, **how) as image:  # type: ignore[arg-type]
        return image.readall()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a raw base; the current directory is another one."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    raw(home / "base.raw", BASE)
    monkeypatch.chdir(elsewhere)
    return home


class TestDataFiles:
    def make(self, folder: Path, stored: str, monkeypatch: pytest.MonkeyPatch) -> Path:
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            overlay(folder / "disk", None, data_file=stored)
            fill(folder / "disk", 0, BASE)
        return folder / "disk"

    def test_it_is_found_beside_the_image(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """QEMU finds it only in the current directory."""
        path = self.make(folder, "disk.data", monkeypatch)
        assert read(path) == BASE
        # One of the same name in the current directory is not taken: it is not beneath.
        Path("disk.data").write_bytes(b"wrong")
        assert read(path) == BASE

    def test_one_of_another_place_needs_to_be_allowed(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = str(folder.parent / "away.data")
        path = self.make_away(folder, stored)
        with pytest.raises(ExternalReferenceError, match="--external any") as caught:
            read(path)
        assert caught.value.reference == stored
        assert read(path, external="any") == BASE

    def make_away(self, folder: Path, stored: str) -> Path:
        overlay(folder / "disk", None, data_file=stored)
        return fill(folder / "disk", 0, BASE, external="any")

    def test_one_that_is_gone(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.make(folder, "disk.data", monkeypatch)
        (folder / "disk.data").unlink()
        with pytest.raises(SourceError, match=r"\(data file of '.*disk'; to name another"):
            read(path)

    def test_one_that_is_the_image(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.make(folder, "disk.data", monkeypatch)
        (folder / "disk.data").unlink()
        (folder / "disk.data").symlink_to("disk")
        with pytest.raises(BackingChainError, match="same file"):
            read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which files are open")
@pytest.mark.parametrize("damage", ["gone", "header", "secret", "locked out", "loop", "data"])
def test_after_a_failure_no_file_is_open(damage: str, folder: Path) -> None:
    overlay(folder / "low", "base.raw", backing_format="raw", secret="one")
    overlay(folder / "middle", "low")
    overlay(folder / "top", "middle")
    if damage == "gone":
        (folder / "base.raw").unlink()
    elif damage == "header":
        (folder / "low").write_bytes(b"nothing")
    elif damage == "locked out":
        overlay(folder / "low", "../elsewhere/x", backing_format="raw")
    elif damage == "loop":
        overlay(folder / "low", "top")
    elif damage == "data":
        overlay(folder / "low", None, data_file=str(folder / "low.data"))
        (folder / "low.data").unlink()
    before = open_descriptors()
    with pytest.raises(Qcow2CryptError):
        qcow2crypt.open(folder / "top")
    assert open_descriptors() == before
